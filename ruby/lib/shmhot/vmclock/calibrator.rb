# frozen_string_literal: true

module Shmhot
  class VMClock
    # Makes the content of pages from this host's counter and its kernel's clock, for hosts without a hypervisor's page.
    # It may be used by any thread.
    class Calibrator < Handle
      # page:: a Snapshot to be written
      # bracket_ns:: how long the reading took on which it rests, which bounds what the measurement adds to the error
      Measurement = Struct.new(:page, :bracket_ns)

      def initialize
        hold(Native::VMCLOCK_CALIBRATOR_CLOSE) { |out| Native::VMCLOCK_CALIBRATOR_CREATE.call(out) }
        # The call lets go of the interpreter lock, and must be over before another thread closes.
        @turn = Mutex.new
      end

      # Measures; to be called about once a second. The first time takes 100 ms.
      def measure
        page = "\0".b * RESULT_BYTES
        bracket = [0].pack("Q")
        @turn.synchronize { accept(Native::VMCLOCK_CALIBRATOR_MEASURE.call(@address, page, bracket)) }
        Measurement.new(Snapshot.unpack(page), bracket.unpack1("Q")).freeze
      end

      def close
        @turn.synchronize { super }
      end
    end
  end
end
