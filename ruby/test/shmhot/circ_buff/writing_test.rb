# frozen_string_literal: true

require "test_helper"

# What is written arrives.
class CircBuffWritingTest < Minitest::Test
  include StreamHelper

  def buffer(bytes)
    IO::Buffer.new(bytes.bytesize).tap { |buffer| buffer.set_string(bytes) }
  end

  def test_bytes_and_numbers
    bytes = frames(1..2).flatten.pack("f*")
    [bytes, buffer(bytes), buffer("no#{bytes}").slice(2, 32), frames(1..2), frames(1..2).flatten].each do |given|
      assert_equal 2, stream.write(given)
      assert_equal frames(1..2), read.first
    end
    assert_equal 0, stream.write("")
    assert_nil read
  end

  # These are not copied on the way.
  def test_large_buffers
    bytes = Random.bytes(1 << 20)
    CircBuff.open(stream_name, dtype: :U8, shape: 1 << 10, frames: 1 << 11, rate: 1) do |stream|
      large = buffer("no#{bytes}")
      assert_equal 1 << 10, stream.write(large.slice(2, bytes.bytesize))
      large.locked { stream.write(large.slice(2, bytes.bytesize)) }
      slice = large.slice(2, bytes.bytesize)
      slice.locked { stream.write(slice) }
      copied, = mirror.read
      assert_equal [bytes] * 2, [0, 1 << 20].map { |offset| copied.get_string(offset, 1 << 20) }[0, 2]
      refute_predicate large, :locked?
      large.free
      assert_raises(IO::Buffer::AllocationError) { stream.write(large) }
    end
  end

  def test_of_more_than_the_ring_holds_the_newest_is_there
    assert_equal 25, stream.write(frames(0..24))
    numbers, times, span = read
    assert_equal frames(15..24), numbers
    assert_equal 15, span.first
    assert_in_delta 0.15, times.first
  end

  def test_timestamps
    stream(start: 5)
    stream.write(frames(0..1))
    stream.write(frames([2]), timestamps: 7)
    stream.write(frames(3..4), timestamps: [8.5, 9])
    stream.write(frames(5..6), timestamps: buffer([10.0, 11.0].pack("d*")))
    stream.write(frames([7]))
    read[1].zip([5, 5.01, 7, 8.5, 9, 10, 11, 11.01]) { |time, expected| assert_in_delta expected, time }
  end

  def test_irregular_frames
    CircBuff.open(stream_name, dtype: :U8, frames: 4) do |stream|
      assert_match(/timestamp/, assert_raises(Errno::EINVAL) { stream.write("a") }.message)
      stream.write("ab", timestamps: [3, 50])
      assert_equal [3.0, 50.0], read[1]
    end
  end

  def test_what_is_not_whole_is_not_written
    error = assert_raises(ArgumentError) { stream.write("x" * 33) }
    assert_equal "33 bytes are no whole number of frames, which have 16", error.message
    error = assert_raises(ArgumentError) { stream.write(frames(1..2), timestamps: [1]) }
    assert_equal "1 timestamps for 2 frames", error.message
    assert_nil read
  end

  def test_layouts_without_timestamps
    [1, 0].each do |layout|
      CircBuff.open(stream_name, dtype: :U8, frames: 4, rate: 10, layout: layout) do |stream|
        stream.write("abc", timestamps: [5, 6, 7])
        stream.reserve(2) { |_, times| assert_nil times }
        CircMirror.open(stream_name) do |mirror|
          assert_equal layout, mirror.info.layout
          _, times, = mirror.read(2)
          times.zip([0.1, 0.2]) { |time, expected| assert_in_delta expected, time }
          mirror.view { |_, times, _| assert_nil times }
        end
      end
    end
  end

  def test_reserve_fills_the_ring_in_place
    assert_equal 2, stream.reserve(2) { |room, times|
      assert_equal [32, 16], [room.size, times.size]
      assert_in_delta 0.01, times.get_value(:f64, 8)
      room.set_string(frames(1..2).flatten.pack("f*"))
      times.set_value(:f64, 8, 70.0)
      assert_nil mirror.read
    }
    numbers, times, = read
    assert_equal frames(1..2), numbers
    assert_equal 70.0, times.last
  end

  def test_reserve_around_the_end_of_the_ring
    stream.write(frames(0..7))
    mirror.read
    counts = []
    stream.reserve(5) do |room, times|
      counts << room.size / 16
      assert_equal counts.last, times.size / 8
      first = 8 + counts[0..-2].sum
      room.set_string(frames(first...first + counts.last).flatten.pack("f*"))
    end
    assert_equal [2, 3], counts
    numbers, times, = read
    assert_equal frames(8..12), numbers
    assert_in_delta 0.12, times.last
  end

  def test_what_was_reserved_cannot_be_written_afterwards
    kept = nil
    stream.reserve(1) { |*buffers| kept = buffers }
    kept.each { |buffer| assert_raises(IO::Buffer::AllocationError) { buffer.set_value(:U8, 0, 1) } }
  end

  def test_reserve_publishes_nothing_unless_the_block_comes_to_its_end
    assert_raises(IOError) { stream.reserve(3) { raise IOError } }
    stream.reserve(3) { break }
    assert_nil read
    stream.write(frames([1]))
    assert_equal frames([1]), read.first
  end

  def test_part_of_what_was_reserved
    (room, _), = stream.reserve(5)
    room.set_string(frames(1..2).flatten.pack("f*"))
    assert_raises(Errno::EBUSY) { stream.reserve(1) }
    assert_raises(Errno::EBUSY) { stream.write(frames([9])) }
    assert_raises(Errno::EBUSY) { stream.configure(rate: 5) }
    assert_raises(Errno::EMSGSIZE) { stream.commit(6) }
    stream.commit(2)
    assert_equal frames(1..2), read.first
    assert_raises(Errno::EBUSY) { stream.commit(1) }
    assert_raises(Errno::EMSGSIZE) { stream.reserve(11) }
  end

  # The memory stays, whatever becomes of the ring.
  def test_reserved_memory_outlives_the_stream
    (room, times), = stream.reserve(10)
    stream.commit(0)
    stream.configure(shape: 5)
    stream.close
    GC.start
    room.set_string("x" * room.size)
    times.set_value(:f64, 72, 1.0)
    assert_equal "x" * 160, room.get_string(0, room.size)
  end

  def test_any_thread_may_write
    CircBuff.open(stream_name, dtype: :s32, frames: 10_000, rate: 1) do |stream|
      4.times.map { |thread| Thread.new { 1000.times { |i| stream.write([(thread * 1000) + i]) } } }.each(&:join)
      numbers, times, = read
      assert_equal (0...4000).to_a, numbers.sort
      assert_equal (0...4000).map(&:to_f), times
    end
  end

  # Objects and memory of calls are where the collector looks for them.
  def test_with_the_garbage_collector_at_every_step
    stream
    mirror.format
    GC.stress = true
    stream.write([1.0] * 4)
    stream.reserve(1) { |room, _| room.set_value(:f32, 0, 2.0) }
    copied, = mirror.read(1)
    seen = nil
    is_intact = mirror.view { |view, _| seen = view.get_value(:f32, 0) }
    GC.stress = false
    assert_equal [1.0, 2.0, true], [copied.get_value(:f32, 0), seen, is_intact]
  ensure
    GC.stress = false
  end
end
