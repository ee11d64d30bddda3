# frozen_string_literal: true

module Shmhot
  module Utilization
    # The metrics of a registry whose names begin alike.
    class Namespace
      attr_reader :registry, :name

      def initialize(registry, name)
        @registry = registry
        @name = name.to_sym
      end

      # The metric of a name in this namespace.
      def metric(name)
        @registry.metric(:"#{@name}_#{name}")
      end

      # A namespace in this one.
      def namespace(name)
        self.class.new(@registry, :"#{@name}_#{name}")
      end
    end
  end
end
