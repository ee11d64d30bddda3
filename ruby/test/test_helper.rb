# frozen_string_literal: true

require "fileutils"
require "minitest/autorun"
require "open3"
require "rbconfig"
require "socket"
require "tempfile"
require "time"
require "tmpdir"
require "timeout"

RUBY_FOLDER = File.expand_path("..", __dir__)
HEADERS = File.expand_path("../include/shmhot", RUBY_FOLDER)
# The library of this checkout, unless another is to be tested. Programs that the tests start inherit it.
ENV["SHMHOT_LIBRARY"] ||= File.expand_path("../target/release/libshmhot.so", RUBY_FOLDER)

require "shmhot"

module Stopwatch
  def elapsed
    began = Process.clock_gettime(Process::CLOCK_MONOTONIC)
    yield
    Process.clock_gettime(Process::CLOCK_MONOTONIC) - began
  end
end

# A ring, sockets, and the library's constants at hand.
module RingHelper
  include Stopwatch

  Ring = Shmhot::HotpathRing
  Ring.constants.grep(/\A(OP|CMD|F)_/).each { |name| const_set(name, Ring.const_get(name)) }

  def setup
    super
    @sockets = []
  end

  def teardown
    @ring&.close
    @sockets.each(&:close)
    super
  end

  def ring(**options)
    @ring ||= Ring.new(**options)
  end

  # Both ends of a TCP connection; the first one is for the ring.
  def connected
    server = TCPServer.new("127.0.0.1", 0)
    client = TCPSocket.new("127.0.0.1", server.local_address.ip_port)
    ours = server.accept
    server.close
    @sockets.push(ours, client)
    [ours, client]
  end

  def listener
    server = TCPServer.new("127.0.0.1", 0)
    @sockets << server
    server
  end

  def client_of(server)
    client = TCPSocket.new("127.0.0.1", server.local_address.ip_port)
    @sockets << client
    client
  end

  # Turns until the block is satisfied by what has happened so far; gives that.
  def turns_until(seconds = 5)
    happened = []
    deadline = Process.clock_gettime(Process::CLOCK_MONOTONIC) + seconds
    until yield(happened)
      left = deadline - Process.clock_gettime(Process::CLOCK_MONOTONIC)
      flunk "waited #{seconds} s, and only #{happened} happened" if left <= 0
      ring.turn(timeout_ms: (left * 1000).ceil) { |*completion| happened << completion }
    end
    happened
  end

  # The first completion of one kind.
  def turns_until_op(op)
    turns_until { |happened| happened.any? { |completion| completion[0] == op } }.find { |completion| completion[0] == op }
  end
end

# Clock pages in a folder of the test's own, other processes, and the library's constants at hand.
module PageHelper
  include Stopwatch

  Clock = Shmhot::VMClock
  Clock.constants.grep(/\A(COUNTER|TIME|FLAG|STATUS|LEAP)_/).each { |name| const_set(name, Clock.const_get(name)) }

  OUR_COUNTER = RbConfig::CONFIG["host_cpu"].match?(/aarch64|arm64/) ? COUNTER_ARM_VCNT : COUNTER_X86_TSC
  BOUNDED = FLAG_PERIOD_MAXERROR_VALID | FLAG_TIME_MAXERROR_VALID
  ESTIMATED = FLAG_PERIOD_ESTERROR_VALID | FLAG_TIME_ESTERROR_VALID
  SECOND = 1_000_000_000
  # Counts in a second of #page.
  HZ = 1 << 30

  attr_reader :path

  def setup
    super
    @folder = Dir.mktmpdir
    @path = File.join(@folder, "page")
    @handles = []
    @processes = []
  end

  def teardown
    @processes.each do |pid|
      Process.kill(:KILL, pid)
      Process.wait(pid)
    end
    @handles.each(&:close)
    FileUtils.remove_entry(@folder)
    super
  end

  def writer
    @writer ||= kept(Clock::Writer.create(path))
  end

  def clock(**options)
    @clock ||= kept(Clock.new(path, **options))
  end

  def kept(handle)
    @handles << handle
    handle
  end

  # A page that one can reckon with: 1000 s at a count of HZ, a second more for each HZ counts.
  def page(**fields)
    Clock::Snapshot.new(counter_id: OUR_COUNTER, time_type: TIME_UTC, clock_status: STATUS_SYNCHRONIZED,
                        counter_value: HZ, counter_period_frac_sec: (1 << 64) / HZ, time_sec: 1000, **fields)
  end

  # The time of this host, with a bound that is small, and not the kernel's.
  def live_page(maxerror_ns: 1_000_000)
    measured = Clock::Calibrator.open(&:measure).page
    measured.with(time_maxerror_nanosec: maxerror_ns, counter_period_maxerror_rate_frac_sec: 0)
  end

  # Runs the block in another process, which ends when the test does.
  def process
    pid = fork do
      yield
      exit!(0)
    rescue Exception => e
      warn e.full_message
      exit!(1)
    end
    @processes << pid
    pid
  end

  def assert_succeeds(pid)
    Timeout.timeout(20) { Process.wait(pid) }
    @processes.delete(pid)
    assert_predicate $?, :success?
  end
end
