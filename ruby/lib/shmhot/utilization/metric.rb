# frozen_string_literal: true

module Shmhot
  module Utilization
    # A number of a registry. Any thread may change it at any time, and no change is lost.
    #
    # A change is two stores, into this object and into shared memory. On CRuby the usual ones take no lock: threads take
    # turns there, and none is taken between the first test and the return of set_value, because in between there are
    # only instance variables, comparisons and sums of Integers that are no objects, branches that fall through, and a
    # call into C. (A turn ends when a method returns or a branch is taken.) Everything else has calls in between: it takes
    # the lock, and begins again when it finds that one of the usual ones was faster. Where threads really run at the same
    # time, on other Rubies, nothing is usual.
    class Metric
      THREADS_TAKE_TURNS = RUBY_ENGINE == "ruby"
      private_constant :THREADS_TAKE_TURNS

      # One that is written by an observer, or by none.
      def self.for(name, observer)
        metric = new(name)
        metric.observer = observer
        metric
      end

      # Its field, a Symbol, and what it has counted, which is not clamped.
      attr_reader :name, :value

      def initialize(name)
        @name = name.to_sym
        @guard = Mutex.new
        @observer = nil
        @value = 0
        @forked = @reported = false
        aim(Slot::NONE)
        settle { 0 }
        @watch = Fork.watch(self)
      end

      # Adds 1, and returns the sum.
      def increment
        if @plain && @value < @max
          value = @value += 1
          @buffer.set_value(@type, @offset, value)
          value
        else
          change { |now| now + 1 }
        end
      rescue StandardError => e
        report(e)
        value || @value
      end

      # Subtracts 1, and returns the difference.
      def decrement
        if @plain && @value > @min
          value = @value -= 1
          @buffer.set_value(@type, @offset, value)
          value
        else
          change { |now| now - 1 }
        end
      rescue StandardError => e
        report(e)
        value || @value
      end

      # Replaces the number. Returns whether it was one, and could be written.
      def set(value)
        if Integer === value && value <= @max && value >= @min
          @value = value
          @plain = true
          @buffer.set_value(@type, @offset, value)
        else
          change { value }
        end
        true
      rescue StandardError => e
        report(e)
        false
      end

      # One more while the block runs. Returns what the block does.
      def track
        raise ArgumentError, "block required" unless block_given?

        increment
        begin
          yield
        ensure
          decrement
        end
      end

      # From now on it is written by this observer, or by none.
      def observer=(observer)
        @guard.synchronize do
          @observer = observer
          @reported = false
          attach
          settle { |now| now }
        end
      rescue StandardError => e
        report(e)
      end

      private

      def change(&)
        @guard.synchronize do
          attach if @forked
          settle(&)
        end
      end

      def attach
        @forked = false
        aim(Slot::NONE)
        slot = Slot.of(@observer, @name)
        aim(slot) if slot
      rescue StandardError => e
        report(e)
      end

      # What is usual from here on: nothing, until #settle has been there.
      def aim(slot)
        buffer, type, offset = slot.buffer, slot.type, slot.offset
        min, max = THREADS_TAKE_TURNS ? slot.plain.minmax : [1, 0]
        @plain = false
        @slot = slot
        @buffer = buffer
        @type = type
        @offset = offset
        @min = min
        @max = max
      end

      # Stores what the block makes of the number. The lock is held.
      def settle
        begin
          @plain = false
          value = yield(@value)
          fitting = @slot.fit(value)
          plain = value.is_a?(Integer) && value.between?(@min, @max)
        end while @plain # by a usual change in between
        @value = value
        @plain = plain
        @buffer.set_value(@type, @offset, fitting)
        value
      end

      def report(error)
        return if @reported

        @reported = true
        Utilization.report("metric #{@name} was not written", error)
      end

      # What the parent has counted, the parent tells. The next change looks for the child's own segment.
      def forked
        return if @slot.equal?(Slot::NONE)

        aim(Slot::NONE)
        @min, @max = 1, 0
        @value = 0
        @forked = true
      end
    end
  end
end
