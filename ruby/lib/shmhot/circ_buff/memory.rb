# frozen_string_literal: true

module Shmhot
  class CircBuff
    # The memory of a ring, which stays mapped for as long as there are IO::Buffers of it.
    class Memory < Handle
      MEMORY = "JJJQQQ" # circbuf_memory_t
      MEMORY_BYTES = 48
      TIME_BYTES = 8
      private_constant :MEMORY, :MEMORY_BYTES, :TIME_BYTES

      # How many frames it has.
      attr_reader :count

      # The block is the call that keeps the ring.
      def initialize(writable: false, &keep)
        hold(Native::CIRCBUF_RING_FREE, &keep)
        out = [MEMORY_BYTES].pack("J").ljust(MEMORY_BYTES, "\0")
        accept(Native::CIRCBUF_RING_MEMORY.call(@address, out))
        _, @frames, @times, @count, @frame_size, = out.unpack(MEMORY)
        # Slices of one buffer would do, but that in Ruby 3.1 those of a read-only one are not.
        @flags = writable ? 0 : IO::Buffer::READONLY
      end

      # Frames and timestamps, or nil, as pairs: those from an index to the end of the ring, and those from its begin, so
      # many of each.
      def parts(index, counts)
        [index, 0].zip(counts).filter_map do |first, count|
          next if count.zero?

          [buffer(@frames, first, count, @frame_size), (buffer(@times, first, count, TIME_BYTES) unless @times.zero?)]
        end
      end

      private

      def buffer(begins, first, count, size)
        Native.buffer(self, begins + (first * size), count * size, @flags)
      end
    end
    private_constant :Memory
  end
end
