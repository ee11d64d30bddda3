# frozen_string_literal: true

require "test_helper"

# Threads, signals, processes and the garbage collector.
class InterruptionTest < Minitest::Test
  include RingHelper

  # A thread that drives a ring of its own; the ring comes when the thread is asleep in it.
  def asleep
    rings = Queue.new
    thread = Thread.new do
      ring = Ring.new
      rings << ring
      yield ring
    end
    ring = rings.pop
    Thread.pass until thread.status == "sleep"
    [thread, ring]
  end

  def test_thread_kill_ends_a_wait_at_once
    { turn: ->(ring) { ring.turn }, each_completion: ->(ring) { ring.each_completion(timeout_ms: Ring::NO_TIMEOUT) } }
      .each do |name, wait|
        thread, = asleep(&wait)
        took = elapsed { thread.kill.join(5) }
        refute_predicate thread, :alive?, name
        assert_operator took, :<, 0.2, name
      end
  end

  def test_timeout_ends_a_wait_at_once
    took = elapsed { assert_raises(Timeout::Error) { Timeout.timeout(0.05) { ring.turn } } }
    assert_in_delta 0.05, took, 0.1
    ring.timeout(1, 0)
    assert_equal OP_TIMEOUT, turns_until_op(OP_TIMEOUT).first
  end

  def test_a_signal_ends_a_wait_at_once
    assert_raises(Interrupt) do
      Thread.new do
        sleep 0.05
        Process.kill(:INT, Process.pid)
      end
      Timeout.timeout(5) { ring.turn }
    end
    assert_predicate ring, :healthy?
  end

  def test_handled_signals_do_not_end_a_wait
    count = 0
    before = trap(:USR1) { count += 1 }
    sender = Thread.new do
      20.times do
        Process.kill(:USR1, Process.pid)
        sleep 0.002
      end
    end
    assert_in_delta(0.1, elapsed { assert_equal 0, ring.turn(timeout_ms: 100) { flunk } }, 0.05)
    sender.join
    assert_operator count, :>, 0
    assert_predicate ring, :healthy?
  ensure
    trap(:USR1, before)
  end

  def test_process_exit_does_not_wait
    program = 'require "shmhot"; Thread.new { Shmhot::HotpathRing.new.turn }; sleep 0.1; puts "bye"'
    took = elapsed do
      output, status = Open3.capture2e(RbConfig.ruby, "-I#{RUBY_FOLDER}/lib", "-e", program)
      assert_equal ["bye\n", true], [output, status.success?]
    end
    assert_operator took, :<, 3
  end

  # An exception from outside may come up at any point of a turn.
  def test_no_completion_is_lost_to_interruptions
    server = listener
    ring.accept(server)
    interrupted = Class.new(StandardError)
    main = Thread.current
    storm = Thread.new do
      loop do
        sleep rand * 0.001
        main.raise(interrupted)
      end
    end
    total = 2000
    clients = Thread.new { Array.new(total) { TCPSocket.new("127.0.0.1", server.local_address.ip_port) } }
    # Interruptions are kept out of the bookkeeping of this test, not out of the ring.
    accepted = []
    interruptions = 0
    deadline = Process.clock_gettime(Process::CLOCK_MONOTONIC) + 30
    Thread.handle_interrupt(interrupted => :never) do
      until accepted.size == total || Process.clock_gettime(Process::CLOCK_MONOTONIC) > deadline
        begin
          Thread.handle_interrupt(interrupted => :immediate) do
            ring.turn(timeout_ms: 100) { |_, _, result| accepted << result }
          end
        rescue interrupted
          interruptions += 1
        end
      end
      storm.kill.join
    end
    assert_equal total, accepted.size
    assert_equal total, accepted.uniq.size
    assert_operator interruptions, :>, 10
  ensure
    @sockets.concat(clients.value, accepted.map { |fd| IO.for_fd(fd) })
  end

  def test_wake_from_another_thread
    thread, woken = asleep do |ring|
      seen = []
      ring.turn { |op, *| seen << op }
      seen
    end
    woken.wake
    assert_equal [OP_WAKE], thread.value
  end

  def test_close_from_another_thread_ends_a_wait
    thread, closed = asleep { |ring| assert_raises(Shmhot::ClosedError) { ring.turn } }
    closed.close
    assert thread.join(2), "the thread still waits"
    thread.value
    thread, closed = asleep { |ring| ring.each_completion(timeout_ms: 60_000) }
    closed.close
    assert_equal 0, thread.value
  end

  def test_another_thread_is_refused
    made_here = Ring.new # and used there, which is legal
    thread = Thread.new { made_here.turn(timeout_ms: 0) }
    thread.join
    [-> { made_here.turn(timeout_ms: 0) }, -> { made_here.write(1, "x") }, -> { made_here.recv(1) },
     -> { made_here.each_completion(timeout_ms: 0) }, -> { made_here.submit_recv_multishot(1) }, -> { made_here.release_buffer(0) },
     -> { made_here.stats }, -> { made_here.to_io }].each do |call|
      assert_raises(Shmhot::WrongThreadError, &call)
    end
    assert_predicate made_here, :healthy?
  ensure
    made_here&.close
  end

  def test_a_ring_for_any_thread
    shared = Ring.new(any_thread: true)
    ids = Array.new(4) do |id|
      Thread.new do
        shared.timeout(id, 0)
        got = nil
        shared.turn { |_, _, result| got = result }
        got
      end.value
    end
    assert_equal [0, 1, 2, 3], ids
  ensure
    shared&.close
  end

  def test_after_a_fork
    ours, client = connected
    ring.recv(ours)
    ring.turn(timeout_ms: 0) { flunk }
    reader, writer = IO.pipe
    child = fork do
      outcome = [-> { ring.turn(timeout_ms: 0) }, -> { ring.each_completion(timeout_ms: 0) }, -> { ring.stats }].map do |call|
        call.call
      rescue Shmhot::ForkError => e
        e.class.name
      end
      ring.close
      writer.puts outcome.join(" "), ring.closed?
      exit! 0
    end
    Process.wait(child)
    writer.close
    assert_equal "#{(["Shmhot::ForkError"] * 3).join(" ")}\ntrue\n", reader.read
    # The parent's ring is as it was.
    client.write("still here")
    _, _, length, buf_id = turns_until_op(OP_RECV)
    assert_equal "still here", ring.payload(buf_id, length)
  ensure
    reader&.close
  end

  def test_parked_sends_survive_the_garbage_collector
    ours, client = connected
    expected = 64.times.map do |i|
      bytes = (i % 2).zero? ? Random.new(i).bytes(40_000) : "#{i}" * 30_000
      if (i % 3).zero?
        iov = [Fiddle::Pointer[bytes].to_i, bytes.bytesize].pack("JJ")
        ring.submit_send(ours.fileno, iov, 1)
      else
        ring.write(ours.fileno, bytes)
        ring.turn(timeout_ms: 0) { |op, *| assert_equal OP_SEND, op }
      end
      Digest.of(bytes)
    end
    4.times do
      GC.start
      GC.compact if GC.respond_to?(:compact)
      Array.new(1000) { "garbage" * 6000 } # takes the place of what was collected
    end
    ring.half_close(ours)
    received = Thread.new { client.read }
    turns_until_op(OP_SHUTDOWN)
    bytes = received.value
    assert_equal(expected, expected.map { |_, size| Digest.of(bytes.slice!(0, size)) })
    assert_empty bytes
  end

  # A hash and a length: what is compared must not keep alive what was sent.
  module Digest
    def self.of(bytes)
      [bytes.hash, bytes.bytesize]
    end
  end

  def test_unclosed_rings_are_freed
    open = -> { Dir.children("/proc/self/fd").size }
    make = -> { 20.times { Ring.new.turn(timeout_ms: 0) } }
    GC.start
    before = open.call
    make.call
    assert_operator open.call, :>, before
    # The last one may still be on the stack.
    10.times { GC.start }
    assert_operator open.call, :<=, before + 3
  end

  # If every wait let go of the interpreter lock, each turn would cost a time slice: 10 turns a second.
  def test_beside_a_thread_that_computes
    clients = 16
    server = listener
    child = fork do
      sockets = Array.new(clients) { TCPSocket.new("127.0.0.1", server.local_address.ip_port) }
      sockets.each { |socket| socket.write("x") }
      loop { IO.select(sockets)[0].each { |socket| socket.write(socket.readpartial(1)) } }
    rescue SystemCallError, EOFError
      exit! 0
    end
    busy = Thread.new { loop { Math.sqrt(2) } }
    ring.accept(server)
    echoes = 0
    deadline = Process.clock_gettime(Process::CLOCK_MONOTONIC) + 2
    while Process.clock_gettime(Process::CLOCK_MONOTONIC) < deadline
      ring.turn(timeout_ms: 1000) do |op, fd, result, buf_id|
        if op == OP_ACCEPT
          ring.recv(result)
        else
          ring.write(fd, ring.payload(buf_id, result), release: buf_id)
          echoes += 1
        end
      end
    end
    assert_operator echoes, :>, 2 * 10 * clients * 3
  ensure
    busy&.kill
    Process.kill(:KILL, child)
    Process.wait(child)
  end

  # Enough of a fiber scheduler to see who runs while the ring waits.
  class Scheduler
    def initialize
      @waiting = {}
    end

    attr_reader :waiting

    def io_wait(io, _events, _timeout)
      @waiting[Fiber.current] = io
      Fiber.yield
      IO::READABLE
    end

    def run
      until @waiting.empty?
        readable, = IO.select(@waiting.values.uniq)
        @waiting.select { |_, io| readable.include?(io) }.each_key do |fiber|
          @waiting.delete(fiber)
          fiber.resume
        end
      end
    end

    def fiber(&block)
      Fiber.new(blocking: false, &block).tap(&:resume)
    end

    def kernel_sleep(*) = raise(NotImplementedError)
    def block(*) = raise(NotImplementedError)
    def unblock(*) = raise(NotImplementedError)
    def close = run
  end

  def test_under_a_fiber_scheduler
    reader, writer = IO.pipe
    events = []
    Thread.new do
      Fiber.set_scheduler(Scheduler.new)
      own = Ring.new
      Fiber.schedule do
        own.timeout(1, 30)
        own.turn { |op, *| events << op }
        own.close
      end
      Fiber.schedule do
        reader.wait_readable
        events << :other
      end
      writer << "x" # the fibers are asleep by now
    end.join
    assert_equal [:other, OP_TIMEOUT], events
  ensure
    reader&.close
    writer&.close
  end
end
