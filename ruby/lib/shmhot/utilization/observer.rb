# frozen_string_literal: true

module Shmhot
  module Utilization
    # Writes fields of a schema into shared memory. Registries, also those of Async::Utilization, write where its schema
    # and its buffer say.
    #
    # A forked child has no buffer, or, with an observer of a SegmentStore, one in a segment of its own.
    class Observer
      # Opens +size+ bytes from +offset+, any offset, of a file. Their blocks are allocated, so that a full disk is an
      # Errno::ENOSPC here. With a block, yields the observer and closes it in the end.
      def self.open(schema, path, size, offset)
        size = Integer(size)
        offset = Integer(offset)
        observer = new(schema, Segment.new(schema, path, size, offset))
        return observer unless block_given?

        begin
          yield observer
        ensure
          observer.close
        end
      end

      # The schema that was given.
      attr_reader :schema

      # buffer:: an IO::Buffer that begins where the fields do
      #
      # The block is what a SegmentStore gives: it opens another segment for a forked child.
      def initialize(schema, buffer, &reopen)
        @schema = schema
        @reopen = reopen
        @guard = Mutex.new
        take(buffer)
        @watch = Fork.watch(self)
      end

      # The IO::Buffer of the segment; nil when it is closed.
      def buffer
        @buffer || (@guard.synchronize { @buffer || take(@reopen.call).buffer } if @reopen)
      end

      # Writes a number, or the nearest that the field can hold. Unknown fields are ignored; what cannot be written is
      # reported once.
      def set(name, value)
        slot(name)&.store(value)
        nil
      rescue StandardError => e
        report(name, e)
      end

      # The number of a field; nil when it is unknown.
      def get(name)
        slot(name)&.load
      end

      # Adds a number to a field: exactly beside other threads, and in the aligned layout beside other processes too. To
      # be used for fields that no Metric writes, since those write what they have counted themselves. As #set otherwise.
      def add(name, value)
        buffer
        index = Schema.from(@schema).to_a.index { |field, *| field == name.to_sym }
        raise Unsupported, "only an observer of a file adds" unless @segment

        @segment.add(index, value) if index
        nil
      rescue StandardError => e
        report(name, e)
      end

      def close
        @reopen = nil
        @buffer = nil
        @slots.clear
        @segment&.close
        @segment = nil
      end

      def closed?
        @buffer.nil? && @reopen.nil?
      end

      def inspect
        "#<#{self.class}#{" closed" if closed?}>"
      end

      private

      def take(source)
        @segment = source if source.is_a?(Segment)
        @buffer = @segment ? @segment.buffer : source
        @slots = {}
        @reported = {}
        @segment || self
      end

      def slot(name)
        name = name.to_sym
        @slots.fetch(name) { @slots[name] = Slot.of(self, name) }
      end

      def report(name, error)
        return if @reported[name]

        @reported[name] = true
        Utilization.report("field #{name} was not written", error)
        nil
      end

      def forked
        return unless @segment

        @segment.abandon
        @segment = @buffer = nil
        @slots = {}
      end
    end
  end
end
