# frozen_string_literal: true

module Shmhot
  module Utilization
    # Metrics by name, and the observer that writes them. What they count before there is one is written when it comes.
    class Registry
      attr_reader :observer

      def initialize
        @observer = nil
        @metrics = {}
        @guard = Mutex.new
      end

      # The metric of a name, always the same one.
      def metric(name)
        name = name.to_sym
        @guard.synchronize { @metrics[name] ||= Metric.for(name, @observer) }
      end

      # From now on all metrics are written by this observer, or by none.
      def observer=(observer)
        @guard.synchronize do
          @observer = observer
          @metrics.each_value { |metric| metric.observer = observer }
        end
      end

      # What has been counted, by name.
      def values
        @guard.synchronize { @metrics.transform_values(&:value) }
      end

      # A view in which the names begin with another one.
      def namespace(name)
        Namespace.new(self, name)
      end

      def increment(name)
        metric(name).increment
      end

      def decrement(name)
        metric(name).decrement
      end

      def set(name, value)
        metric(name).set(value)
      end

      def track(name, &)
        metric(name).track(&)
      end
    end
  end
end
