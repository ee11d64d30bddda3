# frozen_string_literal: true

module Shmhot
  module Utilization
    # A file of segments, one for each worker, and a sidecar that says what they hold.
    #
    # A supervisor makes one, and gives its workers segments:
    #
    #   store = Shmhot::Utilization::SegmentStore.open("utilization.shm", replace: true)
    #   offset = store.allocate(:first, schema.to_a) # Observer.open(schema, "utilization.shm", 512, offset)
    #   store.read(:first) # => { requests_total: 12, ... }
    #
    # Workers can also help themselves, and whoever has the path can look:
    #
    #   registry.observer = Shmhot::Utilization::SegmentStore.attach("utilization.shm").observer(schema, service: "web")
    #   Shmhot::Utilization::SegmentStore.attach("utilization.shm", read_only: true).totals # => { "web" => { ... } }
    #
    # It may be used by any thread, and by a forked child, which opens it anew.
    class SegmentStore < Handle
      include Enumerable

      # Who has a segment, and what is in it.
      #
      # state:: :alive, :dead, or :undescribed, when nobody has said what the numbers are
      # since:: when it took the segment, a Time
      # values:: numbers by name
      Worker = Struct.new(:segment, :offset, :service, :pid, :state, :since, :values)

      READ_ONLY = 2
      CHECKED = 4
      OPTIONS = "JLLLL" # observer_store_options_t
      OPTIONS_BYTES = 24
      WORKER = "JqQLLLLZ128" # observer_worker_t
      WORKER_BYTES = 168
      VALUE_BYTES = 16 # observer_value_t
      NUMBERS = { 1 => "Q", 2 => "q", 3 => "d" }.freeze # by its type
      STATES = %i[undescribed alive dead].freeze
      FORMATS = %i[prometheus openmetrics].freeze
      FULL = [Errno::ENOSPC, Errno::EDQUOT, Errno::EFBIG].freeze
      Allocation = Struct.new(:segment, :offset, :schema, :service, :pid)
      private_constant :READ_ONLY, :CHECKED, :OPTIONS, :OPTIONS_BYTES, :WORKER, :WORKER_BYTES, :VALUE_BYTES, :NUMBERS,
                       :STATES, :FORMATS, :FULL, :Allocation

      class << self
        # Makes a store. With a block, yields it, closes it in the end, and returns what the block did.
        #
        # size:: bytes of all segments; it doubles when they are taken, whatever the growth_factor, which the original has
        # replace:: whether what is there is replaced; otherwise that is an Errno::EEXIST
        # mode:: permissions; by default for the owner only
        def open(path, size: IO::Buffer::PAGE_SIZE * 8, segment_size: 512, growth_factor: 2, replace: false, mode: 0o600, &block)
          positive("size", size)
          positive("segment_size", segment_size)
          raise ArgumentError, "segment_size is #{segment_size}, more than the size, #{size}" if segment_size > size
          unless growth_factor.is_a?(Numeric) && growth_factor.real? && growth_factor > 1
            raise ArgumentError, "growth_factor is #{growth_factor.inspect}, and must be more than 1"
          end

          File.open(path, File::WRONLY | File::CREAT | File::EXCL, mode).close unless replace
          options = [0, mode, segment_size, size / segment_size]
          lend(new(path, *options) { |*to| Native::OBSERVER_STORE_CREATE.call(*to) }, &block)
        end

        # Opens a store that another process has made.
        #
        # read_only:: for who only looks
        # checked:: read by system calls instead of a mapping: a file that is cut meanwhile is then an Errno::EPROTO, and
        #           not the end of the process
        def attach(path, read_only: false, checked: false, &block)
          flags = (read_only ? READ_ONLY : 0) | (checked ? CHECKED : 0)
          lend(new(path, flags, 0, 0, 0) { |*to| Native::OBSERVER_STORE_OPEN.call(*to) }, &block)
        end

        private :new

        private

        def positive(name, size)
          return if size.is_a?(Integer) && size.positive?

          raise ArgumentError, "#{name} is #{size.inspect}, and must be a positive Integer"
        end
      end

      attr_reader :path

      def initialize(path, *options)
        @path = File.expand_path(path)
        @options = [OPTIONS_BYTES, *options].pack(OPTIONS)
        @allocations = {}
        @forked = false
        hold(Native::OBSERVER_STORE_CLOSE) { |out| yield(@path, @options, out) }
        @watch = Fork.watch(self)
      end

      # Takes a segment for +key+: its numbers are 0. Returns its offset in the file; nil when it cannot grow.
      #
      # schema:: a Schema, or what its to_a gives; empty when #update_schema will tell
      # service:: the worker's, for #totals
      # pid:: the worker's; nil is this process
      def allocate(key, schema, service: nil, pid: nil)
        free(key)
        segment = describing(schema) { |address| call(:ALLOCATE, address, service, pid.to_i) }
        @allocations[key] = Allocation.new(segment, segment * segment_size, schema, service, pid)
        @allocations[key].offset
      rescue *FULL => e
        Utilization.report("no segment for #{key.inspect}", e)
        nil
      end

      # Tells what the segment of +key+ holds.
      def update_schema(key, schema, service: nil, pid: nil)
        allocation = @allocations[key]
        return unless allocation

        service ||= allocation.service
        pid ||= allocation.pid
        describing(schema) { |address| call(:DESCRIBE, allocation.segment, address, service, pid.to_i) unless address.zero? }
        allocation.schema, allocation.service, allocation.pid = schema, service, pid
        nil
      end

      # Gives the segment of +key+ back.
      def free(key)
        allocation = @allocations.delete(key)
        call(:FREE, allocation.segment) if allocation
        nil
      end

      # offset: and schema: of the segment of +key+; nil when it has none.
      def allocation(key)
        allocation = @allocations[key]
        { offset: allocation.offset, schema: allocation.schema } if allocation
      end

      # The numbers in the segment of +key+, by name; nil when it has none.
      def read(key)
        allocation = @allocations[key]
        values(allocation.segment, Schema.from(allocation.schema)) if allocation
      end

      # An Observer with a segment for this process. It gives that back when it is closed; a forked child takes one of its
      # own when it first writes.
      def observer(schema, service: nil)
        take = lambda do
          key = Object.new
          offset = allocate(key, schema, service: service)
          raise Errno::ENOSPC, "no segment of #{@path}" unless offset

          Segment.new(schema, @path, segment_size, offset) { free(key) unless closed? }
        end
        Observer.new(schema, take.call, &take)
      end

      # Yields each Worker that has a segment.
      def each
        return to_enum unless block_given?

        segment = -1
        loop do
          segment = call(:NEXT, segment)
          worker = worker(segment)
          yield worker if worker
        rescue Errno::ENOENT
          return self
        end
      end

      # Sums of all numbers by service and name, with worker_count.
      def totals
        each_with_object({}) do |worker, all|
          next if worker.state == :undescribed

          service = all[worker.service || "unknown"] ||= Hash.new(0)
          worker.values.each { |name, value| service[name] += value }
          service[:worker_count] += 1
        end.each_value { |service| service.default = nil }
      end

      # The sum of a field over all workers, or those of a service.
      def sum(field, service: nil)
        out = "\0".b * VALUE_BYTES
        call(:SUM, service, field.to_s, out)
        number(out, 0)
      end

      # Makes the file at least so long. Returns whether it is; it grows by itself, too.
      def resize(new_size)
        call(:GROW, new_size / segment_size)
        true
      rescue *FULL => e
        Utilization.report("the store cannot grow to #{new_size} bytes", e)
        false
      end

      # Gives back the segments of workers that have died. Returns how many.
      def reap
        call(:REAP)
      end

      # Opens what has the path now, after the store was made anew.
      def reopen
        call(:REOPEN)
        nil
      end

      # The text that Prometheus reads, or with :openmetrics that of OpenMetrics.
      def exposition(format = :prometheus)
        code = FORMATS.index(format)
        raise ArgumentError, "#{format.inspect} is none of #{FORMATS.join(" and ")}" unless code

        room = 1 << 16
        loop do
          text = "\0".b * room
          length = call(:EXPOSITION, code, text, room)
          return text.byteslice(0, length).force_encoding(Encoding::UTF_8) if length < room

          room = length * 2
        end
      end

      # Bytes of all segments.
      def size
        call(:COUNT) * segment_size
      end

      def segment_size
        call(:SEGMENT_SIZE)
      end

      private

      def call(name, ...)
        revive if @forked
        accept(Native.const_get(:"OBSERVER_STORE_#{name}").call(@address, ...))
      end

      def describing(schema, &)
        schema = Schema.from(schema)
        schema.fields.empty? ? yield(0) : schema.native(&)
      end

      # nil when it has just gone.
      def worker(segment)
        loop do
          before = record(segment)
          since, offset, pid, state, fields, _, service = before
          values = fields.zero? ? {} : values(segment, schema(segment))
          next if record(segment) != before # the segment has changed hands

          service = service.dup.force_encoding(Encoding::UTF_8)
          return Worker.new(segment, offset, service.empty? ? nil : service, pid, STATES[state],
                            Time.at(0, since, :nsec), values)
        rescue Errno::ENOENT, Errno::ENODATA
          return
        end
      end

      def record(segment)
        out = [WORKER_BYTES].pack("J").ljust(WORKER_BYTES, "\0")
        call(:WORKER, segment, out)
        out.unpack(WORKER).drop(1)
      end

      def schema(segment)
        Schema.read { |out| call(:SCHEMA, segment, out) }
      end

      def values(segment, schema)
        return {} if schema.fields.empty?

        out = "\0".b * (schema.fields.size * VALUE_BYTES)
        call(:READ, segment, out, schema.fields.size)
        schema.fields.each_with_index.to_h { |field, index| [field.name, number(out, index * VALUE_BYTES)] }
      end

      def number(bytes, at)
        bytes.unpack1(NUMBERS.fetch(bytes.unpack1("L", offset: at)), offset: at + 8)
      end

      def forked
        @forked = true
      end

      # The parent's is of no use here.
      def revive
        @forked = false
        return if let_go.nil?

        hold(Native::OBSERVER_STORE_CLOSE) { |out| Native::OBSERVER_STORE_OPEN.call(@path, @options, out) }
      rescue StandardError
        @forked = true
        raise
      end
    end

    # As later releases of the original call it.
    SegmentAllocator = SegmentStore
  end
end
