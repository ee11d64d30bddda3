# frozen_string_literal: true

module Shmhot
  module Utilization
    # A part of a file in memory. The library has seen that it lies in the file and that its blocks are there, and adds
    # to its fields; Ruby writes them.
    class Segment < Handle
      attr_reader :buffer

      # The block is called when it is closed, but not in a forked child, which is no owner.
      def initialize(schema, path, size, offset, &closed)
        path = File.path(path)
        @closed = closed
        schema = Schema.from(schema)
        raise Errno::EINVAL, "the schema has #{schema.size} bytes, and the segment only #{size}" if schema.size > size

        schema = Schema.new([]) unless (@has_indices = schema.layout)
        schema.native do |address|
          hold(Native::OBSERVER_CLOSE) { |out| Native::OBSERVER_OPEN.call(address, path, size, offset, nil, out) }
        end
        map(path, size, offset)
      rescue StandardError
        let_go if @address
        raise
      end

      # Adds to a field, by its place in the schema.
      def add(index, value)
        raise Unsupported, "the fields are neither packed nor aligned" unless @has_indices

        function = value.is_a?(Float) ? Native::OBSERVER_ADD_F64 : Native::OBSERVER_ADD_I64
        accept(function.call(@address, index, value))
      end

      def close
        abandon
        @closed&.call
        @closed = nil
      end

      # Gives the memory back, and nothing else.
      def abandon
        let_go
        @mapping.free # from here on the buffer refuses
      end

      private

      # From the page in which it begins, and no byte further than it goes: what is behind the file is SIGBUS.
      def map(path, size, offset)
        before = offset % IO::Buffer::PAGE_SIZE
        File.open(path, File::RDWR | File::NOFOLLOW) do |file|
          raise Errno::EINVAL, "#{path} was cut while it was opened" if file.size < offset + size

          @mapping = IO::Buffer.map(file, before + size, offset - before)
        end
        @buffer = @mapping.slice(before, size)
      end
    end
    private_constant :Segment
  end
end
