# frozen_string_literal: true

module Shmhot
  module Utilization
    # A type of IO::Buffer: lower case is little-endian, upper case big-endian.
    #
    # name:: as IO::Buffer knows it
    # code:: as the library does
    # size:: bytes
    # range:: of the Integers that it holds; nil of a float
    Type = Struct.new(:name, :code, :size, :range) do
      # The one of a name, also of an alias such as :u8 or :i32.
      def self.named(name)
        self::ALL.fetch(name) do
          code = Native::OBSERVER_TYPE.call(name.to_s)
          raise ArgumentError, "#{name.inspect} is no type of IO::Buffer, such as :u64 or :F32" if code.negative?

          self::ALL.values[code - 1]
        end
      end

      def self.range_of(letter, bits)
        case letter.downcase
        when "u" then 0..(1 << bits) - 1
        when "s" then -(1 << (bits - 1))..(1 << (bits - 1)) - 1
        end
      end
      private_class_method :range_of

      self::ALL = (1..18).to_h do |code|
        name = Fiddle::Pointer.new(Native::OBSERVER_TYPE_NAME.call(code)).to_s
        bits = name[1..].to_i
        [name.to_sym, new(name.to_sym, code, bits / 8, range_of(name[0], bits)).freeze]
      end.freeze
    end
    private_constant :Type
  end
end
