# frozen_string_literal: true

require "test_helper"

# What a mirror reads, and what it tells.
class CircMirrorTest < Minitest::Test
  include StreamHelper

  def test_each_frame_once
    stream
    number = 0
    # Single ones, exact fills, and all that is between.
    [1, 1, 8, 10, 3, 7, 10, 1].each do |count|
      stream.write(frames(number...number + count))
      numbers, times, span = read
      assert_equal frames(number...number + count), numbers
      assert_in_delta number / 100.0, times.first
      assert_equal [number, count, 0, 1, 0], span.to_a.first(5)
      assert_equal [number, count], [span.first, times.size]
      assert_nil read
      number += count
    end
  end

  def test_a_limit
    stream.write(frames(0..4))
    assert_equal frames(0..1), read(2).first
    assert_equal frames(2..4), read(1 << 20).first
    assert_nil read(0)
  end

  def test_losses_are_counted
    stream.write(frames(0..3))
    read(1)
    stream.write(frames(4..24))
    numbers, _, span = read
    assert_equal [frames(15..24), 15, 14], [numbers, span.first, span.lost]
    stream.write(frames([25]))
    assert_equal 0, read.last.lost
    assert_equal 14, mirror.info.lost
  end

  # A read copies 16 MiB at most, but a frame of any size.
  def test_large_frames
    bytes = Random.bytes(17 << 20)
    CircBuff.open(stream_name, dtype: :U8, shape: bytes.bytesize, frames: 2, rate: 1) do |stream|
      2.times { stream.write(bytes) }
      2.times do |number|
        copied, times, span = mirror.read
        assert_equal [bytes.hash, [number], number], [copied.get_string(0, copied.size).hash, times, span.first]
      end
    end
  end

  def test_times
    stream(start: 10)
    stream.write(frames(0..9))
    read(3)
    { (10.025...10.05) => 3..4, (10.02..10.05) => 2..5, (nil...10.02) => 0..1, (10.08..) => 8..9, (nil..nil) => 0..9 }.each do |range, numbers|
      range = (range.begin&.round(3)..range.end) unless range.exclude_end?
      assert_equal frames(numbers), read_by_time(range).first, range
    end
    assert_equal frames(2..3), read_by_time(10.02.., 2).first
    assert_nil read_by_time(11...12)
    assert_equal 3, read.last.first
  end

  def read_by_time(...)
    copied, times, span = mirror.read_time(...)
    [span.format.unpack(copied), times, span] if copied
  end

  def test_frames_without_times
    CircBuff.open(stream_name, dtype: :U8, frames: 4, layout: 1) do |stream|
      stream.write("ab", timestamps: [1, 2])
      assert_raises(Errno::ENODATA) { mirror.read_time(0..) }
      assert_predicate mirror.read[1], :all?, &:nan?
    end
  end

  def test_a_view_is_the_ring_itself
    stream.write(frames(0..6))
    mirror.read
    stream.write(frames(7..11))
    parts = []
    assert(mirror.view do |view, times, span|
      assert_equal frames(span.first...span.first + span.count), span.format.unpack(view)
      assert_in_delta span.first / 100.0, times.get_value(:f64, 0)
      parts << span.to_a
    end)
    assert_equal [[7, 3, 0, 1], [10, 2, 0, 1]], parts.map { |part| part.first(4) }
    assert_nil(mirror.view { flunk })
    assert_nil mirror.read
  end

  def test_a_view_tells_when_it_was_overwritten
    stream.write(frames(0..1))
    refute(mirror.view(1) do |view|
      stream.write(frames(2..11))
      assert_equal frames([10]), mirror.format.unpack(view)
    end)
    mirror.view(1) { |_, _, span| assert_equal [2, 1], [span.first, span.lost] }
    assert_equal 1, mirror.info.lost
  end

  def test_a_view_is_read_only
    stream.write(frames([1]))
    mirror.view do |*buffers, _|
      buffers.each { |buffer| assert_raises(IO::Buffer::AccessError) { buffer.set_value(:U8, 0, 1) } }
    end
  end

  def test_a_view_keeps_its_ring
    stream.write(frames([1]))
    views = []
    mirror.view { |view, times, _| views.push(view, times, view.slice(4, 12)) }
    stream.configure(shape: 2)
    mirror.format
    mirror.close
    stream.close
    GC.start
    assert_equal [1.0, 0.0, 1.25], views.zip(%i[f32 f64 f32]).map { |view, type| view.get_value(type, 0) }
  end

  # The memory of rings goes with the last buffer of it.
  def test_unclosed_mirrors_and_their_rings_are_freed
    stream.write(frames([1]))
    mapped = -> { File.foreach("/proc/self/maps").grep(/#{CircBuff.short_name("#{stream_name}/buffer0")}/).size }
    before = mapped.()
    views = Array.new(100) do
      kept = nil
      CircMirror.new(stream_name).view { |view| kept = view.slice(0, 4) }
      kept
    end
    GC.start
    assert_equal before + 100, mapped.()
    assert_equal [1.0], views.map { |view| view.get_value(:f32, 0) }.uniq
    views.clear
    GC.start
    # The collector may see some that are only on a stack.
    assert_operator mapped.(), :<, before + 10
  end

  def test_what_was_read_is_nobody_else_s
    stream.write(frames([1]))
    copied, = mirror.read
    stream.write(frames(2..20))
    mirror.read
    mirror.close
    GC.start
    copied.set_value(:f32, 12, 9.0)
    assert_equal [1.0, 1.25, 1.5, 9.0].pack("f*"), copied.get_string(0, 16)
  end

  def test_a_new_format
    stream.write(frames(0..2))
    assert_equal frames([0]), read(1).first
    stream.configure(dtype: :s16, shape: [2, 2])
    stream.write([1, 2, 3, 4])
    numbers, _, span = read
    assert_equal [frames(1..2), :f32, 1], [numbers, span.format.dtype, span.ring]
    numbers, _, span = read
    assert_equal [[[[1, 2], [3, 4]]], :s16, 2, 3, 0], [numbers, span.format.dtype, span.ring, span.first, span.lost]
    assert_equal span.format, mirror.format
    stream.configure(shape: 1)
    stream.write([7])
    mirror.view { |view, _, span| assert_equal [[[7]], 3], [span.format.unpack(view), span.ring] }
  end

  def test_metadata_changes_are_told_with_the_frames
    stream.write(frames([0]))
    assert_equal 0, read.last.metadata_generation
    stream.metadata = { key: "k" }
    stream.write(frames([1]))
    assert_equal 1, read.last.metadata_generation
    stream.write(frames([2]))
    mirror.view { |_, _, span| assert_equal 1, span.metadata_generation }
  end

  def test_seek
    stream.write(frames(0..14))
    read
    { 7 => 7, 0 => 5, :oldest => 5, 14 => 14 }.each do |number, first|
      mirror.seek(number)
      assert_equal [first, 0], read.last.to_h.values_at(:first, :lost), number
    end
    mirror.seek(8)
    mirror.seek(:newest)
    assert_nil read
    assert_raises(TypeError) { mirror.seek(:middle) }
  end

  def test_from_now
    stream.write(frames(0..1))
    late = kept(CircMirror.new(stream_name, from_now: true))
    assert_nil late.read
    stream.write(frames([2]))
    _, _, span = late.read
    assert_equal [2, 1, 0], [span.first, span.count, span.lost]
  end

  def test_state
    assert_equal :absent, mirror.state
    assert_equal [nil, nil, nil, nil, false], mirror.info.to_h.values_at(:layout, :pid, :generation, :last_write, :ours)
    pid = writer do |stream|
      stream.write(frames([1]))
      sleep
    end
    assert_equal 1, mirror.wait(timeout: 20)
    assert_equal [true, false, false], [mirror.alive?, mirror.dead?, mirror.ended?]
    kill(pid)
    assert_equal [false, true, false], [mirror.alive?, mirror.dead?, mirror.ended?]
    assert_equal frames([1]), read.first
    stream.close
    assert_equal [false, false, true], [mirror.alive?, mirror.dead?, mirror.ended?]
  end

  def test_a_closed_mirror
    stream.write(frames([1]))
    mirror.format
    mirror.close
    mirror.close
    assert_predicate mirror, :closed?
    %i[read wait metadata info state each].each { |name| assert_raises(Shmhot::ClosedError, name) { mirror.send(name) { flunk } } }
    assert_raises(Shmhot::ClosedError) { mirror.view { flunk } }
    assert_raises(Shmhot::ClosedError) { mirror.seek(0) }
    assert_raises(Shmhot::ClosedError) { mirror.read_time(0..) }
  end

  def test_names_that_cannot_be
    assert_raises(Errno::EINVAL) { CircMirror.new("") }
    assert_raises(ArgumentError) { CircMirror.new("a\0b") }
    assert_raises(EncodingError) { CircMirror.new("\xff".b) }
  end

  def test_what_is_no_stream
    header = "/dev/shm/#{CircBuff.short_name(stream_name)}"
    File.binwrite(header, "no stream" * 1000)
    error = assert_raises(Errno::EPROTO) { mirror.wait(timeout: 20) }
    assert_includes error.message, header
  ensure
    File.delete(header)
  end

  def test_threads_share_a_mirror
    stream = kept(CircBuff.new(stream_name, dtype: :s32, frames: 100_000, rate: 1))
    mirror
    read = Queue.new
    threads = 3.times.map do
      Thread.new do
        mirror.each { |copied, _, span| span.format.unpack(copied).each { |number| read << number } }
      rescue Shmhot::ClosedError
        nil # as all numbers are there
      end
    end
    1000.times { |i| stream.write((i * 10...(i + 1) * 10).to_a) }
    numbers = Timeout.timeout(20) { Array.new(10_000) { read.pop } }
    mirror.close
    threads.each { |thread| assert thread.join(20) }
    assert_empty read
    assert_equal 9_999, numbers.sort.each_cons(2).count { |one, other| other == one + 1 }
  end

  def test_a_forked_child_reads_on
    stream.write(frames([1]))
    mirror.format
    mirror.view { nil }
    stream.write(frames([2]))
    assert_succeeds(process do
      assert_equal frames([2]), read.first
      mirror.close
    end)
    assert_equal frames([2]), read.first
  end
end
