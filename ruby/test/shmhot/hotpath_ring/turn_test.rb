# frozen_string_literal: true

require "test_helper"

# The fast path.
class TurnTest < Minitest::Test
  include RingHelper

  MIB = 1 << 20

  def test_a_conversation
    server = listener
    ring.accept(server)
    client = client_of(server)
    _, listening, fd = turns_until_op(OP_ACCEPT)
    assert_equal server.fileno, listening

    ring.recv(fd)
    client.write("question")
    op, from, length, buf_id, flags = turns_until_op(OP_RECV)
    assert_equal [OP_RECV, fd, 8, F_BUFFER | F_MORE], [op, from, length, flags & (F_BUFFER | F_MORE)]
    assert_equal "question", ring.payload(buf_id, length)

    ring.write(fd, "answer", release: buf_id, notify: true)
    assert_equal [OP_SEND, fd, 6, -1], turns_until_op(OP_SEND).first(4)
    assert_equal "answer", client.readpartial(100)
    assert_equal 0, ring.stats[:buffers_held]

    ring.close_connection(fd)
    assert_equal [OP_CLOSE, fd, 0], turns_until_op(OP_CLOSE).first(3)
    assert_nil client.read(1)
    assert_raises(Errno::EBADF) { IO.for_fd(fd) }
  end

  def test_connect
    server = listener
    socket = Socket.new(:INET, :STREAM)
    @sockets << socket
    ring.connect(socket, server.local_address.to_sockaddr)
    assert_equal [OP_CONNECT, socket.fileno, 0], turns_until_op(OP_CONNECT).first(3)
    ring.write(socket.fileno, "hello")
    ring.half_close(socket)
    assert_equal [OP_SHUTDOWN, socket.fileno, 0], turns_until_op(OP_SHUTDOWN).first(3)
    assert_equal "hello", server.accept.read
  end

  def test_writes_of_all_kinds_arrive_in_order
    ours, client = connected
    random = Random.new(1)
    pin = ring.pin("pinned \xFF".b)
    sent = +""
    reader = Thread.new { client.read }
    400.times do |i|
      piece =
        case i % 4
        when 0 then random.bytes(random.rand(1..4096))
        when 1 then random.bytes(random.rand(5000..100_000))
        when 2 then "grüße #{i} " * random.rand(1..3)
        else pin
        end
      ring.write(ours.fileno, piece)
      sent << (piece.equal?(pin) ? "pinned \xFF" : piece).b
      piece.clear if piece.is_a?(String) # what is written has been copied, or is shared
      ring.turn(timeout_ms: 0) { |*completion| flunk completion.inspect } if i % 50 == 49
    end
    ring.close_connection(ours)
    assert_equal 0, turns_until_op(OP_CLOSE)[2]
    received = reader.value
    assert_equal sent.bytesize, received.bytesize
    assert sent == received, "other bytes arrived than were sent"
  end

  def test_more_commands_than_fit_into_a_call
    ours, client = connected
    text = Array.new(3000) { |i| "#{i} " }
    text.each { |piece| ring.write(ours.fileno, piece) }
    ring.half_close(ours)
    turns_until_op(OP_SHUTDOWN)
    assert_equal text.join, client.read
  end

  def test_refused_commands_are_told_each_and_the_others_go_on
    ours, client = connected
    ring.write(999_999, "to nobody")
    ring.release(Ring::DEFAULT_N_BUFS)
    ring.release(0)
    ring.cancel_timeout(-7)
    ring.write(ours.fileno, "to somebody")
    refusals = []
    ring.turn(timeout_ms: 0) { |*completion| refusals << completion }
    assert_equal [[OP_SEND, 999_999, -Errno::EBADF::Errno, -1, F_REFUSED],
                  [CMD_RELEASE, -1, -Errno::EINVAL::Errno, Ring::DEFAULT_N_BUFS, F_REFUSED],
                  [CMD_RELEASE, -1, -Errno::EALREADY::Errno, 0, F_REFUSED],
                  [CMD_CANCEL_TIMEOUT, -1, -Errno::ENOENT::Errno, -1, F_REFUSED]], refusals
    assert_equal "to somebody", client.readpartial(100)
  end

  def test_a_refused_write_leaves_the_buffer
    ours, client = connected
    ring.recv(ours)
    client.write("x")
    buf_id = turns_until_op(OP_RECV)[3]
    ring.write(999_999, "answer", release: buf_id)
    assert_equal [OP_SEND, 999_999, -Errno::EBADF::Errno, buf_id, F_REFUSED], turns_until_op(OP_SEND)
    assert_equal 1, ring.stats[:buffers_held]
  end

  def test_what_no_command_can_mean_raises_at_once
    assert_raises(Errno::EBADF) { ring.recv(-1) }
    assert_raises(Errno::EBADF) { ring.write(1 << 31, "x") }
    assert_raises(RangeError) { ring.release(-1) }
    assert_raises(RangeError) { ring.release(1 << 40) }
    assert_raises(RangeError) { ring.timeout(1 << 63, 1) }
    assert_raises(RangeError) { ring.idle_timeout(1, -1) }
    assert_raises(ArgumentError) { ring.cancel(1, 64) }
    assert_raises(TypeError) { ring.recv(nil) }
    assert_raises(NoMethodError) { ring.write(1, nil) }
    assert_raises(Errno::EBADF) { ring.write(nil, "x") }
    assert_raises(NoMethodError) { ring.write(1.5, "x") }
    assert_raises(RangeError) { ring.write(1, "x", release: -1) }
    assert_equal 0, ring.turn(timeout_ms: 0) { flunk }
  end

  def test_payload_stays_inside_the_pool
    ring.stats
    assert_raises(RangeError) { ring.payload(-1, 1) }
    assert_raises(RangeError) { Ring.new.payload(0, 1) }
    assert_raises(RangeError) { ring.payload(Ring::DEFAULT_N_BUFS, 1) }
    assert_raises(RangeError) { ring.payload(0, Ring::DEFAULT_BUF_SIZE + 1) }
    assert_raises(ArgumentError) { ring.payload(0, -1) }
    ring.close
    assert_raises(RangeError) { ring.payload(0, 1) }
  end

  def test_a_bound_on_queued_bytes
    ours, = connected
    ring(max_queued_bytes: 4 * MIB)
    8.times { ring.write(ours.fileno, "x" * MIB) }
    refused = turns_until { |happened| happened.size >= 1 }
    assert(refused.all? { |op, _, result, _, flags| [op, result, flags] == [OP_SEND, -Errno::EAGAIN::Errno, F_REFUSED] })
    assert_equal refused.size, ring.stats[:sends_refused]
  end

  def test_large_messages_through_few_buffers
    ring(n_bufs: 4, buf_size: 1024)
    message = Random.new(2).bytes(MIB)
    clients = Array.new(8) do
      ours, client = connected
      ring.recv(ours)
      Thread.new do
        writer = Thread.new { client.write(message) }
        echo = client.read(message.bytesize)
        writer.join
        echo == message
      end
    end
    echoed = 0
    until echoed == clients.size * message.bytesize
      ring.turn(timeout_ms: 5000) do |op, fd, length, buf_id|
        assert_equal OP_RECV, op
        assert_operator length, :>, 0
        ring.write(fd, ring.payload(buf_id, length), release: buf_id)
        echoed += length
      end
    end
    # What was queued at the end still has to be sent.
    ring.turn(timeout_ms: 10) { flunk } while clients.any?(&:alive?)
    assert clients.all?(&:value), "an echo differs"
  end

  def test_timeouts
    ring.timeout(1, 60)
    ring.timeout(-(1 << 63), 20)
    ring.timeout(3, 1)
    ring.cancel_timeout(3)
    ids = nil
    took = elapsed { ids = turns_until { |happened| happened.size == 2 }.map { |_, _, id| id } }
    assert_equal [-(1 << 63), 1], ids
    assert_in_delta 0.06, took, 0.05
  end

  def test_waiting_is_bounded
    assert_in_delta 0.05, elapsed { assert_equal 0, ring.turn(timeout_ms: 50) { flunk } }, 0.04
  end

  def test_idle_timeout
    ours, = connected
    ring.recv(ours)
    ring.idle_timeout(ours, 30)
    assert_equal [OP_RECV, ours.fileno, -Errno::ETIMEDOUT::Errno], turns_until_op(OP_RECV).first(3)
  end

  def test_pause_and_resume
    ours, client = connected
    ring.recv(ours)
    ring.pause(ours)
    ring.turn(timeout_ms: 20) { flunk }
    client.write("x")
    ring.turn(timeout_ms: 50) { flunk }
    ring.resume(ours)
    assert_equal 1, turns_until_op(OP_RECV)[2]
  end

  def test_cancel
    ours, = connected
    ring.recv(ours)
    ring.turn(timeout_ms: 10) { flunk }
    ring.cancel(ours, OP_RECV)
    assert_equal [OP_RECV, ours.fileno, -Errno::ECANCELED::Errno], turns_until_op(OP_RECV).first(3)
  end

  def test_forget
    ours, client = connected
    ring.recv(ours)
    ring.turn(timeout_ms: 10) { flunk }
    ring.forget(ours)
    client.write("x")
    assert_equal 0, ring.turn(timeout_ms: 50) { flunk }
    assert_equal 0, ring.stats[:connections]
  end

  def test_drain
    server = listener
    ring.accept(server)
    client_of(server)
    fd = turns_until_op(OP_ACCEPT)[2]
    ring.recv(fd)
    ring.drain
    ring.turn(timeout_ms: 30) { |op, *| assert_equal OP_ACCEPT, op } # the end of accepting
    ring.close_connection(fd)
    assert_equal 0, turns_until_op(OP_DRAIN)[2]
  end

  def test_drain_with_a_deadline
    ours, = connected
    ring.recv(ours)
    ring.drain(timeout_ms: 20)
    assert_equal 1, turns_until_op(OP_DRAIN)[2]
  end

  def test_what_a_block_leaves_behind_comes_with_the_next_turn
    10.times { |id| ring.timeout(id, 0) }
    sleep 0.01
    seen = []
    ring.turn do |_, _, id|
      seen << id
      break if seen.size == 3
    end
    assert_raises(RuntimeError) do
      ring.turn do |_, _, id|
        seen << id
        raise "a bug in the block"
      end
    end
    ring.timeout(10, 0)
    seen.concat(turns_until { |happened| happened.size == 7 }.map { |_, _, id| id })
    assert_equal (0..10).to_a, seen.sort
  end

  def test_a_turn_inside_a_turn
    5.times { |id| ring.timeout(id, 0) }
    sleep 0.01
    outer = []
    inner = []
    ring.turn do |_, _, id|
      outer << id
      ring.turn(timeout_ms: 0) { |_, _, other| inner << other } if outer.size == 2
    end
    assert_equal [2, 3], [outer.size, inner.size]
    assert_equal (0...5).to_a, (outer + inner).sort
  end

  def test_run_until_stop
    ring.timeout(1, 5)
    seen = []
    ring.run do |op, _, result|
      seen << [op, result]
      ring.stop if op == OP_TIMEOUT
    end
    assert_includes seen, [OP_TIMEOUT, 1]
    stopper = Thread.new do
      sleep 0.03
      ring.stop
    end
    assert_in_delta(0.03, elapsed { ring.run { |op, *| assert_equal OP_WAKE, op } }, 0.05)
  ensure
    stopper&.join
  end

  def test_a_listener_that_nobody_else_holds_is_not_collected
    port = ring.then do |ring|
      server = TCPServer.new("127.0.0.1", 0)
      ring.accept(server)
      server.local_address.ip_port
    end
    GC.start
    client = TCPSocket.new("127.0.0.1", port)
    @sockets << client
    @sockets << IO.for_fd(turns_until_op(OP_ACCEPT)[2])
  end

  def test_inside_somebody_else_s_loop
    assert_nil IO.select([ring], nil, nil, 0)
    ring.timeout(1, 20)
    ring.turn(timeout_ms: 0) { flunk }
    readable, = IO.select([ring], nil, nil, 5)
    assert_equal [ring], readable
    assert_equal 1, ring.turn(timeout_ms: 0) { |op, *| assert_equal OP_TIMEOUT, op }
    assert_equal ring.event_fd, ring.to_io.fileno
  end

  def test_a_message_costs_an_object_and_a_batch_another
    ours, client = connected
    ring = self.ring # the helper makes objects itself
    pong = ring.pin("pong")
    into = +""
    ring.recv(ours)
    round = lambda do
      client.write_nonblock("ping")
      ring.turn { |_, fd, length, buf_id| ring.write(fd, pong, release: buf_id) if ring.payload(buf_id, length) == "ping" }
      ring.turn(timeout_ms: 0) { flunk }
      client.read_nonblock(4, into)
    end
    objects = lambda do
      before = GC.stat(:total_allocated_objects)
      100.times { round.call }
      (GC.stat(:total_allocated_objects) - before).fdiv(100).round(1)
    end
    objects.call # the first rounds are not the steady state
    assert_operator objects.call, :<=, 2.1
    assert_equal "pong", into
  end

  def test_probe_stats_and_backend
    assert_predicate Ring, :supported?
    assert_predicate Shmhot, :hotpath_supported?
    assert_includes Ring.probe[:features], "provided buffer rings"
    assert_equal :io_uring, ring.backend
    before = ring.stats
    ring.timeout(1, 0)
    turns_until_op(OP_TIMEOUT)
    assert_operator ring.stats[:syscalls], :>=, before[:syscalls]
    assert_equal "#<Shmhot::HotpathRing>", ring.inspect
  end
end
