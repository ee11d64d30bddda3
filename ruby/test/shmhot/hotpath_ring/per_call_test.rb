# frozen_string_literal: true

require "test_helper"

# A call for each operation.
class PerCallTest < Minitest::Test
  include RingHelper

  def completions(count = 1)
    got = []
    ring.each_completion(timeout_ms: 5000) { |completion| got << completion } while got.size < count
    got
  end

  def iovec(*strings)
    strings.flat_map { |string| [Fiddle::Pointer[string].to_i, string.bytesize] }.pack("J*")
  end

  def test_constants
    assert_equal [1024, 512, 8192, 24, 64],
                 [Ring::DEFAULT_QUEUE_DEPTH, Ring::DEFAULT_N_BUFS, Ring::DEFAULT_BUF_SIZE, Ring::COMPLETION_BYTES, Ring::MAX_BATCH]
    assert_equal [1, 2, 3, 4], [Ring::OP_ACCEPT, Ring::OP_RECV, Ring::OP_SEND, Ring::OP_CLOSE]
  end

  def test_a_conversation
    server = listener
    assert_nil ring.submit_accept_multishot(server.fileno)
    client = client_of(server)
    accepted = completions.first
    assert_equal({ op_kind: OP_ACCEPT, fd: server.fileno }, accepted.slice(:op_kind, :fd))
    fd = accepted[:result]
    @sockets << IO.for_fd(fd)

    assert_nil ring.submit_recv_multishot(fd)
    client.write("question")
    received = completions.first
    assert_equal({ op_kind: OP_RECV, fd: fd, result: 8 }, received.slice(:op_kind, :fd, :result))
    assert_equal F_BUFFER, received[:flags] & F_BUFFER
    assert_equal "question", ring.copy_buffer(received[:buf_id], received[:result])
    assert_equal 0, ring.release_buffer(received[:buf_id])

    assert_nil ring.submit_send(fd, iovec("ans", "", "wer"), 3)
    assert_equal({ op_kind: OP_SEND, fd: fd, result: 6, buf_id: -1 }, completions.first.slice(:op_kind, :fd, :result, :buf_id))
    assert_equal "answer", client.readpartial(100)
  end

  def test_iovecs_may_be_a_pointer_an_address_or_bytes
    ours, client = connected
    one = iovec("one ")
    pointer = Fiddle::Pointer.malloc(16, Fiddle::RUBY_FREE)
    two = "two "
    pointer[0, 16] = iovec(two)
    three = "three"
    array = iovec(three)
    ring.submit_send(ours, one, 1)
    ring.submit_send(ours.fileno, pointer, 1)
    ring.submit_send(ours.fileno, Fiddle::Pointer[array].to_i, 1)
    assert_equal [4, 4, 5], completions(3).map { |completion| completion[:result] }
    assert_equal "one two three", client.readpartial(100)
  end

  def test_refusals_are_system_call_errors
    ours, = connected
    assert_raises(Errno::EBADF) { ring.submit_accept_multishot(-1) }
    assert_raises(SystemCallError) { ring.submit_send(ours.fileno, nil, 1) }
    assert_raises(SystemCallError) { ring.submit_send(ours.fileno, iovec("x"), 1025) }
    assert_raises(SystemCallError) { ring.copy_buffer(Ring::DEFAULT_N_BUFS, 1) }
    ring.submit_recv_multishot(ours.fileno)
    assert_raises(Errno::EALREADY) { ring.submit_recv_multishot(ours.fileno) }
  end

  def test_a_buffer_is_released_once
    ours, client = connected
    ring.submit_recv_multishot(ours.fileno)
    client.write("x")
    id = completions.first[:buf_id]
    assert_equal 0, ring.release_buffer(id)
    assert_equal(-Errno::EALREADY::Errno, ring.release_buffer(id))
    assert_equal(-Errno::EINVAL::Errno, ring.release_buffer(Ring::DEFAULT_N_BUFS))
    assert_equal 0, ring.stats[:buffers_held]
  end

  def test_timeouts_are_honoured
    assert_in_delta 0.05, elapsed { assert_equal 0, ring.each_completion(timeout_ms: 50) { flunk } }, 0.04
    assert_operator elapsed { ring.each_completion(timeout_ms: 0) { flunk } }, :<, 0.04
  end

  def test_min_complete_waits_for_more_than_one
    ours, client = connected
    ring.submit_recv_multishot(ours.fileno)
    writer = Thread.new do
      3.times do |i|
        sleep 0.05
        client.write(i.to_s)
      end
    end
    got = []
    assert_equal 3, ring.each_completion(min_complete: 3, timeout_ms: 5000) { |completion| got << completion }
    assert_equal "012", got.map { |completion| ring.copy_buffer(completion[:buf_id], completion[:result]) }.join
  ensure
    writer&.join
  end

  def test_at_most_a_batch_at_a_time_and_nothing_is_lost
    100.times { |id| ring.timeout(id, 1) }
    sleep 0.02
    ids = []
    counts = []
    counts << ring.each_completion(timeout_ms: 1000) { |completion| ids << completion[:result] } while ids.size < 100
    assert_operator counts.max, :<=, Ring::MAX_BATCH
    assert_equal (0...100).to_a, ids.sort
  end

  def test_an_unhealthy_ring_yields_nothing
    assert_predicate ring, :healthy?
    ring.force_unhealthy!
    refute_predicate ring, :healthy?
    assert_equal 0, ring.each_completion { flunk }
    assert_raises(SystemCallError) { ring.submit_accept_multishot(listener.fileno) }
  end

  def test_a_closed_ring
    assert_instance_of Fiddle::Pointer, ring.ptr
    refute_predicate ring, :closed?
    2.times { ring.close }
    assert_predicate ring, :closed?
    assert_nil ring.ptr
    refute_predicate ring, :healthy?
    assert_equal 0, ring.each_completion { flunk }
    assert_raises(SystemCallError) { ring.submit_recv_multishot(0) }
    assert_raises(Shmhot::ClosedError) { ring.turn }
    assert_nil ring.wake
  end
end
