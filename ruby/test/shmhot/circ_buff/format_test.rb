# frozen_string_literal: true

require "test_helper"

# What frames are, and the numbers in them.
class CircBuffFormatTest < Minitest::Test
  include StreamHelper

  Format = CircBuff::Format
  # What each type can hold.
  NUMBERS = {
    f32: [0.5, -1.25, Float::INFINITY], f64: [0.1, -1e300, 0.0],
    S8: [-128, 0, 127], s16: [-(1 << 15), 1, (1 << 15) - 1], s32: [-(1 << 31), 2, (1 << 31) - 1],
    s64: [-(1 << 63), 3, (1 << 63) - 1],
    U8: [0, 1, 255], u16: [0, 1, (1 << 16) - 1], u32: [0, 1, (1 << 32) - 1], u64: [0, 1, (1 << 64) - 1],
    bool: [true, false, true], c64: [Complex(0.5, -2), Complex(1, 0), Complex(0, 1)], c128: [Complex(0.1, 0.2), 1i, 0i]
  }.freeze

  def test_numbers_of_all_types_arrive
    NUMBERS.each do |dtype, numbers|
      CircBuff.open(stream_name, dtype: dtype, frames: 4, rate: 1) do |stream|
        stream.write(numbers)
        CircMirror.open(stream_name) do |mirror|
          frames, _, span = mirror.read
          assert_equal numbers, span.format.unpack(frames), dtype
          assert_equal dtype, mirror.format.dtype
          next unless dtype.match?(/\A[fsuSU]/)

          # The name is that of IO::Buffer.
          assert_equal numbers.last, frames.get_value(dtype, 2 * span.format.frame_size)
        end
      end
    end
    assert_equal Format::TYPES - NUMBERS.keys, [:f16]
  end

  def test_floats_of_two_bytes_are_bytes
    CircBuff.open(stream_name, dtype: :f16, frames: 2, rate: 1) do |stream|
      stream.write("\x00\x3c\x00\x3e")
      assert_equal "\x00\x3c\x00\x3e".b, CircMirror.open(stream_name) { |mirror| mirror.read.first.get_string(0, 4) }
      error = assert_raises(ArgumentError) { stream.write([1.0]) }
      assert_match(/Ruby has no numbers of f16/, error.message)
    end
  end

  def test_characters_of_numpy
    "efdbhilqBHILQ?FD".each_char.zip(
      %i[f16 f32 f64 S8 s16 s32 s64 s64 U8 u16 u32 u64 u64 bool c64 c128]
    ) do |character, dtype|
      CircBuff.open(stream_name, dtype: character, frames: 1) { |stream| assert_equal dtype, stream.format.dtype, character }
    end
  end

  def test_numbers_that_a_type_cannot_hold
    { U8: [-1, 256], S8: [-129, 128], s16: [1 << 15], u32: [1 << 32], u64: [-1], s64: [1 << 63] }.each do |dtype, numbers|
      format = Format.new(dtype, [], 1, 0.0, "")
      numbers.each do |number|
        error = assert_raises(RangeError) { format.pack([0, number]) }
        assert_equal "#{number} is no #{dtype}", error.message
      end
    end
    assert_raises(TypeError) { Format.new(:f32, [], 1, 0.0, "").pack(["1.5"]) }
  end

  def test_dimensions
    format = Format.new(:s16, [2, 3], 4, 0.0, "")
    frames = [[[1, 2, 3], [4, 5, 6]], [[7, 8, 9], [10, 11, 12]]]
    assert_equal 12, format.frame_size
    assert_equal (1..12).to_a.pack("s*"), format.pack(frames)
    assert_equal frames, format.unpack(format.pack(frames))
    assert_equal [], format.unpack("")
  end

  def test_what_writer_and_mirror_say
    CircBuff.open(stream_name, dtype: :f32, shape: [2, 3], seconds: 2.5, rate: 4, key: "Gerät") do |stream|
      format = Format.new(:f32, [2, 3], 10, 4.0, "Gerät")
      assert_equal format, stream.format
      assert_equal format, mirror.format
      assert_in_delta 2.5, format.seconds
      assert_predicate format, :frozen?
      assert_nil Format.new(:f32, [], 10, 0.0, "").seconds
    end
  end

  def test_many_dimensions
    CircBuff.open(stream_name, dtype: :U8, shape: [1] * 62 << 2, frames: 2, rate: 1) do |stream|
      stream.write("\x01\x02")
      assert_equal [1] * 62 << 2, mirror.format.shape
      assert_equal [1, 2], read.first.flatten
    end
  end

  def test_what_cannot_be_says_why
    { { dtype: :u8 } => /dtype is :u8, and must be one of f16, .*U8/,
      { dtype: "lq" } => /dtype is "lq"/,
      { shape: 4 } => /dtype is nil/,
      { dtype: :f32, frames: 1 << 32 } => /frames is 4294967296/,
      { dtype: :f32, frames: -1 } => /frames is -1/,
      { dtype: :f32, frames: 4, shape: [3, 0] } => /a length of shape is 0/,
      { dtype: :f32, frames: 4, shape: [1] * 64 } => /64 dimensions/,
      { dtype: :f32, frames: 4, key: "x" * 1025 } => /key has 1025 bytes/,
      { dtype: :f32, frames: 4, key: "a\0b" } => /key has a NUL/,
      { dtype: :f32, frames: 4, layout: 3 } => /layout is 3/,
      { dtype: :f32, frames: 4, speed: 3 } => /speed/ }.each do |options, sentence|
      error = assert_raises(ArgumentError, options.inspect) { CircBuff.new(stream_name, **options) }
      assert_match sentence, error.message
    end
    { { dtype: :f32 } => /a ring of 0 seconds/,
      { dtype: :f32, seconds: 1, rate: -1 } => /-1 frames per second/,
      { dtype: :f32, frames: 4, seconds: 1, rate: 1 } => /frames and seconds/,
      { dtype: :f64, frames: 4, shape: [1 << 31, 1 << 31] } => /more than can be mapped/ }.each do |options, sentence|
      error = assert_raises(Errno::EINVAL, options.inspect) { CircBuff.new(stream_name, **options) }
      assert_match sentence, error.message
    end
    assert_empty leftovers
  end
end
