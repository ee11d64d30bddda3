# frozen_string_literal: true

module Shmhot
  module Utilization
    # Which fields a segment has, and where.
    #
    #   Schema.build(requests_total: :u64, load: { type: :f64, kind: :gauge, unit: "cores", help: "What is used." })
    class Schema
      # name, type and offset:: as in Schema#to_a
      # kind:: :counter, :gauge, or nil
      # help:: what it counts, in a sentence; or nil
      # unit:: such as "bytes" or "seconds"; or nil
      class Field < Struct.new(:name, :type, :offset, :kind, :help, :unit)
        def self.new(*values, **fields)
          unknown = fields.keys - members
          raise ArgumentError, "a field has no #{unknown.join(", ")}" unless unknown.empty?

          field = super(*values, *fields.values_at(*members.drop(values.size)))
          field.name = field.name.to_sym
          field.freeze
        end
      end

      KINDS = [nil, :counter, :gauge].freeze
      LAYOUTS = %i[packed aligned].freeze
      private_constant :KINDS, :LAYOUTS

      class << self
        # From types, or Hashes of type, kind, help and unit, by name: each field begins where the one before ends.
        def build(fields)
          new(place(fields, :packed))
        end

        # The same with gaps, so that each field begins at a multiple of its size: it never tears, and several processes
        # may add to it.
        def aligned(fields)
          new(place(fields, :aligned))
        end

        # From a Schema, of whichever library, or what its to_a gives.
        def from(fields)
          fields.is_a?(self) ? fields : new(fields.to_a.map { |name, type, offset| Field.new(name, type, offset) })
        end

        # The offset at which a field can begin, and no other field does.
        def next_offset(layout, offset, size)
          layout == :packed ? offset : (offset + size - 1) / size * size
        end

        # From a C schema, which the block's call puts into its argument.
        def read(&)
          NativeSchema.open do |native|
            native.receive(&)
            new(native.fields.map do |name, type, offset, kind, help, unit|
              Field.new(name, type, offset, KINDS[kind], help, unit)
            end)
          end
        end

        private

        def place(fields, layout)
          offset = 0
          fields.map do |name, description|
            description = { type: description } unless description.is_a?(Hash)
            type = Type.named(description[:type])
            at = next_offset(layout, offset, type.size)
            offset = at + type.size
            Field.new(**description, name: name, type: type.name, offset: at)
          end
        end
      end

      # The Fields in order of declaration.
      attr_reader :fields

      # From Fields, whose offsets are as given.
      def initialize(fields)
        @fields = fields.dup.freeze
        @by_name = @fields.to_h { |field| [field.name, field] }.freeze
        raise ArgumentError, "there are two fields of a name" if @by_name.size < @fields.size

        @fields.each do |field|
          raise ArgumentError, "#{field.name} begins at #{field.offset.inspect}" unless field.offset.is_a?(Integer)
          raise ArgumentError, "#{field.name} is no #{field.kind.inspect}" unless KINDS.include?(field.kind)
        end
        freeze
      end

      # The Field of a name, or nil.
      def [](name)
        @by_name[name.to_sym]
      end

      # [name, type, offset] of each field.
      def to_a
        @fields.map { |field| [field.name, field.type, field.offset] }
      end

      # Bytes up to the last field's end.
      def size
        @fields.map { |field| field.offset + Type.named(field.type).size }.max || 0
      end

      # :packed or :aligned; nil when fields are placed otherwise.
      def layout
        LAYOUTS.find do |layout|
          offset = 0
          @fields.all? do |field|
            size = Type.named(field.type).size
            expected = self.class.next_offset(layout, offset, size)
            offset = expected + size
            field.offset == expected
          end
        end
      end

      # Yields the address of the same as a C schema.
      def native
        arrangement = LAYOUTS.index(layout)
        raise ArgumentError, "the fields are neither packed nor aligned: #{to_a}" unless arrangement

        NativeSchema.open do |native|
          native.make(arrangement)
          @fields.each { |field| native.add(field, KINDS.index(field.kind)) }
          yield native.address
        end
      end
    end

    # A C schema.
    class NativeSchema < Handle
      FIELD = "JJJJCCSL" # observer_field_t
      FIELD_BYTES = 40

      attr_reader :address

      def initialize
        @address = 0
      end

      # Takes the one that the block's call puts into its argument.
      def receive(&)
        hold(Native::OBSERVER_SCHEMA_FREE, &)
      end

      def make(layout)
        receive { |out| Native::OBSERVER_SCHEMA_NEW.call(layout, out) }
      end

      def add(field, kind)
        # Texts outside of Strings, which the garbage collector may move.
        texts = [field.name, field.help, field.unit].map { |text| text && memory(text.to_s) }
        bytes = [FIELD_BYTES, *texts.map(&:to_i), Type.named(field.type).code, kind, 0, 0].pack(FIELD)
        accept(Native::OBSERVER_SCHEMA_ADD.call(@address, bytes))
      end

      # [name, type, offset, kind, help, unit] of each.
      def fields
        Array.new(accept(Native::OBSERVER_SCHEMA_COUNT.call(@address))) do |index|
          out = [FIELD_BYTES].pack("J").ljust(FIELD_BYTES, "\0")
          accept(Native::OBSERVER_SCHEMA_FIELD.call(@address, index, out))
          _, *texts, code, kind, _, offset = out.unpack(FIELD)
          name, help, unit = texts.map { |text| Fiddle::Pointer.new(text).to_s.force_encoding(Encoding::UTF_8) }
          [name, Type::ALL.values[code - 1].name, offset, kind, *[help, unit].map { |text| text unless text.empty? }]
        end
      end

      private

      def memory(text)
        text = text.encode(Encoding::UTF_8)
        raise ArgumentError, "#{text.inspect} has a NUL" if text.include?("\0")

        copy = Fiddle::Pointer.malloc(text.bytesize + 1, Fiddle::RUBY_FREE)
        copy[0, text.bytesize + 1] = "#{text}\0"
        copy
      end
    end
    private_constant :NativeSchema
  end
end
