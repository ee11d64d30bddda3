# frozen_string_literal: true

module Shmhot
  class VMClock
    # vmclock_time_t: its fields, and how they are packed.
    TIME = {
      time_ns: "q", earliest_ns: "q", latest_ns: "q", tai_ns: "q", utc_ns: "q", esterror_ns: "Q", maxerror_ns: "Q",
      counter_value: "Q", disruption_marker: "Q", vm_generation_counter: "Q", flags: "Q", seq_count: "L", valid: "L",
      time_type: "C", clock_status: "C", leap_indicator: "C", reserved: "x5"
    }.freeze
    TIME_FORMAT = TIME.values.join.freeze
    VALID_AT = TIME.keys.index(:valid)
    # What is unknown without a bit of +valid+.
    HAS_TAI = 1
    HAS_UTC = 2
    HAS_ESTERROR = 4
    HAS_MAXERROR = 8
    HAS_ALL = HAS_TAI | HAS_UTC | HAS_ESTERROR | HAS_MAXERROR
    DEPENDENT = { HAS_TAI => %i[tai_ns], HAS_UTC => %i[utc_ns], HAS_ESTERROR => %i[esterror_ns],
                  HAS_MAXERROR => %i[maxerror_ns earliest_ns latest_ns] }.freeze
    private_constant :TIME, :TIME_FORMAT, :VALID_AT, :HAS_TAI, :HAS_UTC, :HAS_ESTERROR, :HAS_MAXERROR, :HAS_ALL,
                     :DEPENDENT

    # A time and how sure it is: a frozen Struct of Integers. Of tai_ns, utc_ns, esterror_ns, maxerror_ns, earliest_ns
    # and latest_ns those that are unknown are nil.
    class Reading < Struct.new(*(TIME.keys - %i[valid reserved]))
      # From the bytes of a vmclock_time_t.
      def self.unpack(bytes)
        values = bytes.unpack(TIME_FORMAT)
        valid = values.delete_at(VALID_AT)
        time = self[*values]
        if valid & HAS_ALL != HAS_ALL
          DEPENDENT.each { |bit, names| names.each { |name| time[name] = nil } if (valid & bit).zero? }
        end
        time.freeze
      end

      # utc_ns as a Time. In a leap second 23:59:59 goes by again, since a Time has no 23:59:60.
      def utc
        at(utc_ns) if utc_ns
      end

      # The earliest and the latest that UTC can be, as Times. The bound holds beside an inserted leap second too.
      def earliest
        at(utc_ns - maxerror_ns) if utc_ns && maxerror_ns
      end

      def latest
        at(utc_ns + maxerror_ns) if utc_ns && maxerror_ns
      end

      # clock_status by name: :synchronized or :freerunning.
      def status
        STATUSES[clock_status]
      end

      # Whether it is 23:59:60.
      def leap_second?
        leap_indicator == LEAP_POS
      end

      private

      def at(nanoseconds)
        Time.at(0, nanoseconds, :nsec, in: "UTC")
      end
    end
  end
end
