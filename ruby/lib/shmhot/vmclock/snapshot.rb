# frozen_string_literal: true

module Shmhot
  class VMClock
    # vmclock_snapshot_t: its fields, and how they are packed.
    PAGE = {
      version: "S", counter_id: "C", time_type: "C", seq_count: "L", disruption_marker: "Q", flags: "Q", padding: "x2",
      clock_status: "C", leap_second_smearing_hint: "C", tai_offset_sec: "s", leap_indicator: "C",
      counter_period_shift: "C", counter_value: "Q", counter_period_frac_sec: "Q",
      counter_period_esterror_rate_frac_sec: "Q", counter_period_maxerror_rate_frac_sec: "Q", time_sec: "Q",
      time_frac_sec: "Q", time_esterror_nanosec: "Q", time_maxerror_nanosec: "Q", vm_generation_counter: "Q"
    }.freeze
    PAGE_FORMAT = PAGE.values.join.freeze
    FIELDS = PAGE.reject { |name, _| name == :padding }.freeze
    RANGES = { "C" => 0..0xff, "S" => 0..0xffff, "s" => -0x8000..0x7fff, "L" => 0..0xffff_ffff,
               "Q" => 0..0xffff_ffff_ffff_ffff }.freeze
    STATUSES = %i[unknown initializing synchronized freerunning unreliable].freeze
    private_constant :PAGE, :PAGE_FORMAT, :FIELDS, :RANGES, :STATUSES

    # A page as it was between two updates: a frozen Struct of Integers.
    class Snapshot < Struct.new(*FIELDS.keys)
      class << self
        # From fields by name. Those that are not given are 0, and the version is 1.
        def new(**fields)
          unknown = fields.keys - members
          raise ArgumentError, "a page has no #{unknown.join(", ")}" unless unknown.empty?

          fields = { version: 1, **fields }
          self[*FIELDS.map { |name, code| fitting(name, fields.fetch(name, 0), RANGES.fetch(code)) }].freeze
        end

        # From the bytes of a vmclock_snapshot_t.
        def unpack(bytes)
          self[*bytes.unpack(PAGE_FORMAT)].freeze
        end

        private

        def fitting(name, value, range)
          return value if value.is_a?(Integer) && range.cover?(value)

          raise RangeError, "#{name} is #{value.inspect}, and must be an Integer of #{range}"
        end
      end

      # The same with other fields.
      def with(**fields)
        self.class.new(**to_h, **fields)
      end

      # clock_status by name; nil for one that has none.
      def status
        STATUSES[clock_status]
      end

      # The time at which the counter had a value, as a Reading.
      def time_at(counter_value)
        out = "\0".b * RESULT_BYTES
        Shmhot.check(Native::VMCLOCK_TIME_AT.call(pack, counter_value, out))
        Reading.unpack(out)
      end

      # The bytes of a vmclock_snapshot_t.
      def pack
        to_a.pack(PAGE_FORMAT)
      end
    end
  end
end
