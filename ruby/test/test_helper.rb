# frozen_string_literal: true

require "minitest/autorun"
require "open3"
require "rbconfig"
require "socket"
require "tempfile"
require "tmpdir"
require "timeout"

RUBY_FOLDER = File.expand_path("..", __dir__)
HEADERS = File.expand_path("../include/shmhot", RUBY_FOLDER)
# The library of this checkout, unless another is to be tested. Programs that the tests start inherit it.
ENV["SHMHOT_LIBRARY"] ||= File.expand_path("../target/release/libshmhot.so", RUBY_FOLDER)

require "shmhot"

# A ring, sockets, and the library's constants at hand.
module RingHelper
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

  def elapsed
    began = Process.clock_gettime(Process::CLOCK_MONOTONIC)
    yield
    Process.clock_gettime(Process::CLOCK_MONOTONIC) - began
  end
end
