# frozen_string_literal: true

module Shmhot
  class CircBuff
    # circbuf_format_t, and its dimensions and bytes of key.
    FORMAT = "JddQdLL63a1028Cx11Q"
    FORMAT_BYTES = 1344
    MAX_DIMENSIONS = 63
    MAX_KEY = 1024
    private_constant :FORMAT, :FORMAT_BYTES, :MAX_DIMENSIONS, :MAX_KEY

    # What the frames of a stream are, and how many its ring holds: a frozen Struct.
    #
    # dtype:: type of the numbers, one of TYPES
    # shape:: length of each dimension of a frame; empty for frames of one number
    # rate:: frames per second; 0.0 when they are irregular
    # key:: what the source calls itself
    class Format < Struct.new(:dtype, :shape, :frames, :rate, :key)
      # Types of numbers, as IO::Buffer knows them; but f16, bool, and the complex c64 and c128, which it does not.
      TYPES = Type::ALL.map(&:name).freeze

      # The one that the block's call puts into +out+. nil when the block says so.
      def self.read
        out = [FORMAT_BYTES].pack("J").ljust(FORMAT_BYTES, "\0")
        return unless yield(out)

        _, rate, _, frames, _, dimensions, *shape, key, character, _ = out.unpack(FORMAT)
        key = key.unpack1("Z*").force_encoding(Encoding::UTF_8).scrub
        new(Type.of(character.chr).name, shape.take(dimensions), frames, rate, key)
      end

      # Bytes of a frame.
      attr_reader :frame_size

      def initialize(*)
        super
        @type = Type.of(dtype)
        @frame_size = shape.inject(@type.size, :*)
        [shape, key, self].each(&:freeze)
      end

      # For how long the ring holds frames; nil when they are irregular.
      def seconds
        frames / rate if rate.positive?
      end

      # The numbers in an IO::Buffer or String of frames: an Array of frames, each an Array for each of its dimensions.
      def unpack(frames)
        frames = frames.get_string(0, frames.size) if frames.is_a?(IO::Buffer)
        numbers = frames.unpack("#{code}*")
        numbers = numbers.each_slice(2).map { |parts| Complex(*parts) } if @type.parts == 2
        numbers = numbers.map(&:positive?) if dtype == :bool
        shape.reverse_each { |length| numbers = numbers.each_slice(length).to_a }
        numbers
      end

      # The bytes of such numbers.
      def pack(numbers)
        numbers = [numbers].flatten
        numbers = numbers.map { |number| number && number != 0 ? 1 : 0 } if dtype == :bool
        numbers = numbers.flat_map(&:rect) if @type.parts == 2
        range = @type.range
        unless range.nil? || numbers.empty? || numbers.minmax.all? { |number| range.cover?(number) }
          raise RangeError, "#{numbers.find { |number| !range.cover?(number) }} is no #{dtype}"
        end

        numbers.pack("#{code}*")
      end

      private

      def code
        @type.code or raise ArgumentError, "Ruby has no numbers of #{dtype}: they are written and read as bytes"
      end
    end

    # What a writer is told of its frames, by the keywords of CircBuff#initialize.
    class Wish
      def initialize(dtype: nil, shape: [], frames: nil, seconds: nil, rate: 0, key: "", start: 0)
        @wish = { dtype: dtype, shape: shape, frames: frames, seconds: seconds, rate: rate, key: key, start: start }
        @type = Type.of(dtype)
        @shape = Array(shape).map { |length| natural("a length of shape", length, 1) }
        raise ArgumentError, "#{@shape.size} dimensions, and frames have at most #{MAX_DIMENSIONS}" if @shape.size > MAX_DIMENSIONS

        @frames = natural("frames", frames || 0, 0)
        @seconds, @rate, @start = [seconds || 0, rate, start].map { |number| Float(number) }
        @key = Native.text("key", key)
        raise ArgumentError, "key has #{@key.bytesize} bytes, and may have #{MAX_KEY}" if @key.bytesize > MAX_KEY
      end

      # The same with changes.
      def with(**changes)
        # Frames and seconds are two ways to say one thing.
        kept = changes.key?(:frames) || changes.key?(:seconds) ? @wish.except(:frames, :seconds) : @wish
        Wish.new(**kept, **changes)
      end

      # A circbuf_format_t.
      def pack
        lengths = @shape + ([0] * (MAX_DIMENSIONS - @shape.size))
        [FORMAT_BYTES, @rate, @seconds, @frames, @start, @shape.size, *lengths, @key, @type.characters.ord, 0].pack(FORMAT)
      end

      # What it became, in a ring of so many frames.
      def format(frames)
        Format.new(@type.name, @shape, frames, @rate, @key)
      end

      private

      def natural(what, number, least)
        return number if number.is_a?(Integer) && number.between?(least, 0xffff_ffff)

        raise ArgumentError, "#{what} is #{number.inspect}, and must be an Integer from #{least} to 2**32 - 1"
      end
    end
    private_constant :Wish
  end
end
