# frozen_string_literal: true

module Shmhot
  # Counters and gauges in shared memory, which any process can read while they are written: with the methods and the
  # bytes of Async::Utilization.
  #
  #   schema = Shmhot::Utilization::Schema.build(requests_total: :u64, requests_active: :u32)
  #   registry = Shmhot::Utilization::Registry.new
  #   registry.observer = Shmhot::Utilization::Observer.open(schema, "utilization.shm", 512, 1024)
  #
  #   requests = registry.metric(:requests_total)
  #   requests.increment # a plain store into the file's memory
  #
  # A write never raises: what could not be written is told to #reporter, once for each field. What a field cannot hold
  # becomes the nearest that it can.
  #
  # A forked child does not write where its parent does. Its metrics begin at 0, and are written again when its registry
  # gets an observer; those of a SegmentStore give it a segment of its own by themselves.
  module Utilization
    # Fields that servers have by convention.
    DEFAULT_SCHEMA = {
      connections_active: :u32, connections_total: :u64, requests_active: :u32, requests_total: :u64
    }.freeze

    class << self
      # What is called with a sentence and an exception when something could not be written. By default it warns.
      attr_accessor :reporter

      # A reporter that fails is no reason for a write to raise.
      def report(what, error)
        reporter.call("#{what}: #{error.message}", error)
      rescue StandardError
        nil
      end
    end

    self.reporter = ->(sentence, _error) { warn("shmhot: #{sentence}") }

    # IO::Buffer tells each process once that it is experimental, which is for those who call it.
    experimental = Warning[:experimental]
    Warning[:experimental] = false
    # Where a metric without an observer is written.
    NOWHERE = IO::Buffer.new(8)
    Warning[:experimental] = experimental
    private_constant :NOWHERE
  end
end

require_relative "utilization/fork"
require_relative "utilization/type"
require_relative "utilization/schema"
require_relative "utilization/slot"
require_relative "utilization/segment"
require_relative "utilization/observer"
require_relative "utilization/metric"
require_relative "utilization/namespace"
require_relative "utilization/registry"
require_relative "utilization/segment_store"
