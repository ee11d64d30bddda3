# frozen_string_literal: true

module Shmhot
  class VMClock
    # Makes a page, or goes on with one that a writer has left. A page has one writer at a time: Errno::EBUSY.
    #
    #   Shmhot::VMClock::Writer.create("/dev/shm/vmclock0") do |writer|
    #     calibrator = Shmhot::VMClock::Calibrator.new
    #     loop do
    #       writer.write(calibrator.measure.page)
    #       sleep 1
    #     end
    #   end
    #
    # It may be used by any thread. A forked child gets ForkError.
    class Writer < Handle
      DEFAULT_MODE = 0o644

      class << self
        alias create open
      end

      # mode:: permissions of a new file
      def initialize(path, mode: DEFAULT_MODE)
        path = File.path(path)
        hold(Native::VMCLOCK_WRITER_CLOSE) { |out| Native::VMCLOCK_WRITER_CREATE.call(path, mode, out) }
      end

      # Replaces the page by a Snapshot, or by one of these fields; with both, these fields replace the Snapshot's.
      # Version and seq_count are the writer's own.
      def write(page = nil, **fields)
        page = page ? page.with(**fields) : Snapshot.new(**fields)
        accept(Native::VMCLOCK_WRITER_WRITE.call(@address, page.pack))
        nil
      end

      # Removes the page's file, if it is still the one that is written, and closes.
      def remove
        Shmhot.check(let_go(Native::VMCLOCK_WRITER_REMOVE) || refuse_closed)
        nil
      end
    end
  end
end
