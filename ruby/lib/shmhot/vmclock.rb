# frozen_string_literal: true

module Shmhot
  # The hypervisor's clock page, consistently read, and time with a bound on its error.
  #
  #   Shmhot::VMClock.open do |clock|
  #     time = clock.now
  #     puts "#{time.utc}, at most #{time.maxerror_ns} ns off, #{time.status}"
  #     clock.wait_until_past(time.latest_ns) # it is later now, whichever clock one asks
  #   end
  #
  # A clock may be used by any number of threads and fibers at once, and after a fork by the child. What waits, waits in
  # Ruby: Thread#kill, Timeout and signals end it at once, and a fiber scheduler runs others meanwhile.
  #
  # Pages are made by a Writer; a Calibrator makes their content on hosts without a hypervisor. The meaning of fields
  # and constants is documented in include/shmhot/vmclock.h.
  class VMClock < Handle
    # How often #wait looks at the page, in seconds; also at that of a device which notifies.
    DEFAULT_INTERVAL = 0.001

    COUNTER_ARM_VCNT = 0
    COUNTER_X86_TSC = 1
    COUNTER_INVALID = 0xff

    TIME_UTC = 0
    TIME_TAI = 1
    TIME_MONOTONIC = 2
    TIME_INVALID_SMEARED = 3
    TIME_INVALID_MAYBE_SMEARED = 4

    FLAG_TAI_OFFSET_VALID = 1 << 0
    FLAG_DISRUPTION_SOON = 1 << 1
    FLAG_DISRUPTION_IMMINENT = 1 << 2
    FLAG_PERIOD_ESTERROR_VALID = 1 << 3
    FLAG_PERIOD_MAXERROR_VALID = 1 << 4
    FLAG_TIME_ESTERROR_VALID = 1 << 5
    FLAG_TIME_MAXERROR_VALID = 1 << 6
    FLAG_TIME_MONOTONIC = 1 << 7
    FLAG_VM_GEN_COUNTER_PRESENT = 1 << 8
    FLAG_NOTIFICATION_PRESENT = 1 << 9

    STATUS_UNKNOWN = 0
    STATUS_INITIALIZING = 1
    STATUS_SYNCHRONIZED = 2
    STATUS_FREERUNNING = 3
    STATUS_UNRELIABLE = 4

    SMEARING_STRICT = 0
    SMEARING_NOON_LINEAR = 1
    SMEARING_UTC_SLS = 2

    LEAP_NONE = 0
    LEAP_PRE_POS = 1
    LEAP_PRE_NEG = 2
    LEAP_POS = 3
    LEAP_POST_POS = 4
    LEAP_POST_NEG = 5

    CHECKED = 1
    OPTIONS = "JLL" # vmclock_options_t
    OPTIONS_BYTES = 16
    RESULT_BYTES = 104 # vmclock_snapshot_t, and vmclock_time_t too
    # The longest sleep of #wait_until_past: an update may bring the end nearer.
    LONGEST_SLEEP = 0.05
    private_constant :CHECKED, :OPTIONS, :OPTIONS_BYTES, :RESULT_BYTES, :LONGEST_SLEEP

    # path:: of a device, a file, or what else holds a page; nil is "/dev/vmclock0"
    # checked:: read by system calls instead of a mapping: a file that is cut meanwhile is then an Errno::EPROTO, and
    #           not the end of the process
    # interval:: how often #wait looks, in seconds
    def initialize(path = nil, checked: false, interval: nil)
      @interval = interval || DEFAULT_INTERVAL
      raise ArgumentError, "interval is #{interval}, and must be positive" unless @interval.positive?

      path = File.path(path) if path
      options = [OPTIONS_BYTES, checked ? CHECKED : 0, 0].pack(OPTIONS)
      hold(Native::VMCLOCK_CLOSE) { |out| Native::VMCLOCK_OPEN_WITH.call(path, options, out) }
      # Memory for results that no call is using. Not Strings, since the garbage collector may move those.
      @spare = []
    end

    # The page as a Snapshot. Beside a writer that has died in an update it takes 100 ms to be an Errno::ETIMEDOUT.
    def snapshot
      read(Native::VMCLOCK_SNAPSHOT, Snapshot)
    end

    # The time as a Reading. Errno::ENODATA says why the page gives none.
    def now
      read(Native::VMCLOCK_NOW, Reading)
    end

    # Waits until the page is another one than that of +last_seq+, the seq_count of a Snapshot or Reading. False when
    # the time, in seconds, is over before; nil is no limit, 0 only looks.
    def wait(last_seq, timeout: nil)
      look_until(timeout) { @interval unless accept(Native::VMCLOCK_WAIT.call(@address, last_seq, 0)).positive? }
    end

    # Waits until +time_ns+, of the page's type, is certainly over. False when the timeout is, as in #wait.
    def wait_until_past(time_ns, timeout: nil)
      look_until(timeout) do
        next if accept(Native::VMCLOCK_WAIT_UNTIL_PAST.call(@address, time_ns, 0)).positive?

        left = time_ns - (now.earliest_ns || time_ns)
        (left * 1e-9).clamp(0, LONGEST_SLEEP)
      end
    end

    private

    def read(function, type)
      out = @spare.pop || Fiddle::Pointer.malloc(RESULT_BYTES, Fiddle::RUBY_FREE)
      at = out.to_i
      accept(function.call(@address, at))
      result = type.unpack(out.to_str)
      @spare.push(out)
      result
    end

    # Sleeps as long as the block says until it says nil.
    def look_until(timeout)
      deadline = monotonic + timeout if timeout
      while (pause = yield)
        if deadline
          left = deadline - monotonic
          return false unless left.positive?

          pause = left if left < pause
        end
        sleep(pause)
      end
      true
    end

    def monotonic
      Process.clock_gettime(Process::CLOCK_MONOTONIC)
    end
  end
end

require_relative "vmclock/snapshot"
require_relative "vmclock/reading"
require_relative "vmclock/writer"
require_relative "vmclock/calibrator"
