# frozen_string_literal: true

module Shmhot
  class CircBuff
    # A type of numbers: numpy's characters for it, of which the first is written, its bytes, and how Array#pack writes
    # the parts of which it consists.
    Type = Struct.new(:name, :characters, :size, :code, :parts) do
      # By name or by character.
      def self.of(name)
        type = self::ALL.find { |known| known.name == name || (name.is_a?(String) && name.size == 1 && known.characters.include?(name)) }
        type or raise ArgumentError, "dtype is #{name.inspect}, and must be one of #{self::ALL.map(&:name).join(", ")}, " \
                                     "or numpy's character of one"
      end

      # What an Integer may be; nil for other numbers.
      def range
        bits = size * 8
        case code
        when "c", "s", "l", "q" then -(1 << (bits - 1))..(1 << (bits - 1)) - 1
        when "C", "S", "L", "Q" then 0..(1 << bits) - 1
        end
      end
    end
    Type::ALL = [
      [:f16, "e", 2, nil, 1], [:f32, "f", 4, "f", 1], [:f64, "d", 8, "d", 1],
      [:S8, "b", 1, "c", 1], [:s16, "h", 2, "s", 1], [:s32, "i", 4, "l", 1], [:s64, "lq", 8, "q", 1],
      [:U8, "B", 1, "C", 1], [:u16, "H", 2, "S", 1], [:u32, "I", 4, "L", 1], [:u64, "LQ", 8, "Q", 1],
      [:bool, "?", 1, "C", 1], [:c64, "F", 8, "f", 2], [:c128, "D", 16, "d", 2]
    ].map { |fields| Type.new(*fields).freeze }.freeze
    private_constant :Type
  end
end
