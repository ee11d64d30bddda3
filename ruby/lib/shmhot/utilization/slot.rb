# frozen_string_literal: true

module Shmhot
  module Utilization
    # Where a field is in memory, and what can be written there.
    class Slot
      # What fits without a thought: Integers that are no objects.
      FIXNUMS = (-(1 << (0.size * 8 - 2))..(1 << (0.size * 8 - 2)) - 1).freeze

      # That of a field of an observer, also of another library's; nil when there is none.
      def self.of(observer, name)
        field = observer&.schema&.[](name)
        buffer = observer.buffer if field
        new(buffer, Type.named(field.type), field.offset) if buffer
      end

      attr_reader :buffer, :type, :offset, :plain

      # Every offset is bounded here: Ruby 3.1 writes in front of a buffer where it is negative.
      def initialize(buffer, type, offset)
        unless offset.between?(0, buffer.size - type.size)
          raise ArgumentError, "#{type.size} bytes at #{offset} do not lie in the #{buffer.size} of the segment"
        end

        @buffer = buffer
        @type = type.name
        @offset = offset
        @range = type.range
        @plain = @range ? [@range.min, FIXNUMS.min].max..[@range.max, FIXNUMS.max].min : FIXNUMS
        freeze
      end

      NONE = new(NOWHERE, Type.named(:s64), 0)

      # What is written for a number: the nearest that the field can hold.
      def fit(value)
        raise TypeError, "#{value.inspect} is no number" unless value.is_a?(Numeric)
        return value unless @range
        raise FloatDomainError, "NaN, and it holds integers" if value.is_a?(Float) && value.nan?

        value.clamp(@range).to_i
      end

      def store(value)
        @buffer.set_value(@type, @offset, fit(value))
      end

      def load
        @buffer.get_value(@type, @offset)
      end
    end
    private_constant :Slot
  end
end
