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

# Who waits, and who runs meanwhile.
module WaitHelper
  # A thread that waits without a limit, asleep in it.
  def asleep(&wait)
    thread = Thread.new(&wait)
    thread.report_on_exception = false
    Thread.pass until thread.stop?
    thread
  end

  # Enough of a fiber scheduler to see who runs while a fiber waits.
  class Scheduler
    def initialize
      @sleepers = []
    end

    def kernel_sleep(seconds)
      @sleepers << [now + seconds, Fiber.current]
      Fiber.yield
    end

    def close
      until @sleepers.empty?
        @sleepers.sort_by!(&:first)
        due, fiber = @sleepers.shift
        Fiber.new(blocking: true) { sleep([due - now, 0].max) }.resume
        fiber.resume
      end
    end

    def fiber(&block)
      Fiber.new(blocking: false, &block).tap(&:resume)
    end

    def io_wait(*) = raise(NotImplementedError)
    def block(*) = raise(NotImplementedError)
    def unblock(*) = raise(NotImplementedError)

    private

    def now
      Process.clock_gettime(Process::CLOCK_MONOTONIC)
    end
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

# A file in a folder of the test's own, handles to close, and other processes.
module FolderHelper
  include Stopwatch

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

  def kept(handle)
    @handles << handle
    handle
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

# Clock pages, and the library's constants at hand.
module PageHelper
  include FolderHelper

  Clock = Shmhot::VMClock
  Clock.constants.grep(/\A(COUNTER|TIME|FLAG|STATUS|LEAP)_/).each { |name| const_set(name, Clock.const_get(name)) }

  OUR_COUNTER = RbConfig::CONFIG["host_cpu"].match?(/aarch64|arm64/) ? COUNTER_ARM_VCNT : COUNTER_X86_TSC
  BOUNDED = FLAG_PERIOD_MAXERROR_VALID | FLAG_TIME_MAXERROR_VALID
  ESTIMATED = FLAG_PERIOD_ESTERROR_VALID | FLAG_TIME_ESTERROR_VALID
  SECOND = 1_000_000_000
  # Counts in a second of #page.
  HZ = 1 << 30

  def writer
    @writer ||= kept(Clock::Writer.create(path))
  end

  def clock(**options)
    @clock ||= kept(Clock.new(path, **options))
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
end

# Segments of a file, and what is reported of them.
module SegmentHelper
  include FolderHelper

  Utilization = Shmhot::Utilization
  Schema = Utilization::Schema
  Observer = Utilization::Observer
  Metric = Utilization::Metric
  Registry = Utilization::Registry

  # Where the segment begins: at no multiple of anything.
  OFFSET = 4001
  SIZE = 512
  # All types of IO::Buffer, with the Integers that they hold.
  RANGES = { U8: 0..0xff, S8: -0x80..0x7f }.merge(
    [16, 32, 64].flat_map do |bits|
      unsigned = 0..(1 << bits) - 1
      signed = -(1 << (bits - 1))..(1 << (bits - 1)) - 1
      [["u", unsigned], ["U", unsigned], ["s", signed], ["S", signed]].map { |letter, range| [:"#{letter}#{bits}", range] }
    end.to_h
  ).freeze
  FLOATS = %i[f32 F32 f64 F64].freeze
  TYPES = [*RANGES.keys, *FLOATS].freeze

  attr_reader :reports

  def setup
    super
    File.binwrite(path, "\0" * 8192)
    @reports = []
    @reporter = Utilization.reporter
    Utilization.reporter = ->(sentence, error) { @reports << [sentence, error] }
  end

  def teardown
    Utilization.reporter = @reporter
    super
  end

  def observer(schema = self.schema, at: OFFSET)
    @observer ||= kept(Observer.open(schema, path, SIZE, at))
  end

  def schema
    @schema ||= Schema.build(connections_active: :u32, requests_total: :u64, requests_active: :u32, load: :f64)
  end

  # A registry that is written, and the metric of a name in it.
  def metric(name)
    @registry ||= Registry.new.tap { |registry| registry.observer = observer }
    @registry.metric(name)
  end

  # What IO::Buffer sees, by a mapping of its own.
  def seen(name, in_schema: schema, at: OFFSET)
    field = in_schema[name]
    buffer = File.open(path, "r+b") { |file| IO::Buffer.map(file, 8192) }
    buffer.get_value(field.type, at + field.offset)
  ensure
    buffer&.free
  end
end

# Streams, under a name of the test's own.
module StreamHelper
  include FolderHelper

  CircBuff = Shmhot::CircBuff
  CircMirror = Shmhot::CircMirror

  attr_reader :stream_name

  def setup
    super
    @stream_name = "shmhot/test/#{Process.pid}/#{rand(1 << 64)}"
  end

  def teardown
    super
    File.delete(*leftovers)
  end

  # 10 frames of 4 numbers.
  def stream(**options)
    @stream ||= kept(CircBuff.new(stream_name, dtype: :f32, shape: 4, frames: 10, rate: 100, **options))
  end

  def mirror(**options)
    @mirror ||= kept(CircMirror.new(stream_name, **options))
  end

  # Frames by number: each has that in it, and three more.
  def frames(numbers)
    numbers.map { |number| [number, number + 0.25, number + 0.5, number + 0.75] }
  end

  # What the mirror reads: numbers and timestamps, which tell from which frames they come, and a span.
  def read(...)
    copied, times, span = mirror.read(...)
    [span.format.unpack(copied), times, span] if copied
  end

  # What lies in /dev/shm of the stream.
  def leftovers
    names = [stream_name, *(0..9).flat_map { |i| ["#{stream_name}/buffer#{i}", "#{stream_name}/meta#{i}"] }]
    names.map { |name| CircBuff.short_name(name) }.flat_map { |short| Dir["/dev/shm/#{short}", "/dev/shm/.#{short}*"] }
  end

  # A writer in another process, which says that it is there, and does what the block does with it.
  def writer
    output, input = IO.pipe
    pid = process do
      output.close
      CircBuff.open(stream_name, dtype: :f32, shape: 4, frames: 10, rate: 100) do |stream|
        input.close
        yield stream
      end
    end
    input.close
    assert_nil Timeout.timeout(20) { output.read(1) }
    pid
  ensure
    output.close
  end

  # Kills what #process or #writer has started.
  def kill(pid)
    Process.kill(:KILL, pid)
    Process.wait(pid)
    @processes.delete(pid)
  end
end
