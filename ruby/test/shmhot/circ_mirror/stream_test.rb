# frozen_string_literal: true

require "test_helper"

# A writer as fast as it can be, and readers of another speed, in processes of their own: what is read is whole, comes in
# order and once, and what is lost is counted.
class CircMirrorStreamTest < Minitest::Test
  include StreamHelper

  FRAMES = 200_000
  # Numbers of a frame: its own, over and over.
  WIDTH = 16

  def write_all
    process do
      CircBuff.open(stream_name, dtype: :u32, shape: WIDTH, frames: 1000, rate: 1) do |stream|
        Timeout.timeout(20) { sleep 0.001 until File.exist?(path) }
        (0...FRAMES).each_slice(100) do |numbers|
          stream.write(numbers.flat_map { |number| [number] * WIDTH }.pack("L*"))
        end
      end
    end
  end

  # Falls back, now and then.
  def dawdle
    @rounds = @rounds.to_i + 1
    sleep 0.01 if (@rounds % 20).zero?
  end

  # Reads to the end, by the block, which gives the frames' numbers, or nil, and a span.
  def check
    read = lost = 0
    # What was overwritten before the first read is not missed.
    begins = expected = nil
    writer = write_all
    assert_predicate mirror.tap { sleep 0.001 until mirror.format }, :alive?
    File.write(path, "")
    while mirror.wait(timeout: 20)
      yield ->(numbers, span) do
        lost += span.lost
        read += span.count
        assert_equal (expected || span.first) + span.lost, span.first
        begins ||= span.first
        expected = span.first + span.count
        next unless numbers

        assert_equal span.count * WIDTH, numbers.size
        first = numbers.each_slice(WIDTH).with_index.find { |frame, i| frame.any? { |number| number != span.first + i } }
        assert_nil first, "torn"
      end
    end
    assert_predicate mirror, :ended?
    assert_operator lost, :>, 0
    assert_equal FRAMES, begins + read + lost
    assert_equal lost, mirror.info.lost
    assert_succeeds writer
  end

  def test_copies
    check do |seen|
      dawdle
      copied, _, span = mirror.read
      seen.(copied.get_string(0, copied.size).unpack("L*"), span) if copied
    end
  end

  def test_views
    outcomes = []
    check do |seen|
      parts = []
      outcomes << mirror.view(200) do |view, _, span|
        dawdle
        parts << [view.get_string(0, view.size).unpack("L*"), span]
      end
      parts.each { |numbers, span| seen.(outcomes.last ? numbers : nil, span) }
    end
    assert_includes outcomes, true
    assert_includes outcomes, false
  end
end
