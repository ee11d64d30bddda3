# frozen_string_literal: true

require "fiddle"

module Shmhot
  # The C functions, each a Fiddle::Function in a constant of its name in capitals. The contract of each is the
  # documentation in include/shmhot/*.h.
  #
  # They keep the interpreter lock: none of them blocks the way it is called here (but for 100 ms when the writer of a
  # page has died in an update, and a second when another process does not let go of a store), and letting go of it costs
  # a time slice beside a busy thread. What waits, waits in Ruby. The exceptions are UNLOCKED.
  module Native
    ABI_VERSION = 0

    EPANIC = -4096
    ETHREAD = -4097
    EFORK = -4098
    EUNHEALTHY = -4099

    # What a parameter may be. An ADDRESS is an Integer, which costs nothing; a POINTER also takes a String, nil or a
    # Fiddle::Pointer, which costs two objects and a fifth of a microsecond a call.
    ADDRESS = Fiddle::TYPE_UINTPTR_T
    POINTER = Fiddle::TYPE_VOIDP
    SIZE = Fiddle::TYPE_SIZE_T
    I32 = Fiddle::TYPE_INT
    U32 = -Fiddle::TYPE_INT
    U16 = -Fiddle::TYPE_SHORT
    I64 = Fiddle::TYPE_LONG_LONG
    U64 = -Fiddle::TYPE_LONG_LONG
    F64 = Fiddle::TYPE_DOUBLE

    # name => what it returns, what it takes
    PROTOTYPES = {
      shmhot_abi_version: [U32],
      shmhot_version: [ADDRESS],
      shmhot_strerror: [ADDRESS, I32],
      shmhot_last_error: [I32, POINTER, SIZE],
      shmhot_last_status: [I32],

      hotpath_supported: [I32],
      hotpath_probe: [I32, POINTER],
      hotpath_feature_name: [ADDRESS, U32],
      hotpath_ring_new: [ADDRESS, U32, U16, U32],
      hotpath_ring_new_with: [ADDRESS, POINTER],
      hotpath_ring_free: [I32, ADDRESS],
      hotpath_submit_accept: [I32, ADDRESS, I32],
      hotpath_submit_recv: [I32, ADDRESS, I32],
      hotpath_submit_send: [I32, ADDRESS, I32, POINTER, U32],
      hotpath_send: [I32, ADDRESS, I32, ADDRESS, SIZE, U32],
      hotpath_turn: [I32, ADDRESS, ADDRESS, U32, U32, U32, ADDRESS, U32],
      hotpath_flush: [I32, ADDRESS],
      hotpath_buffers: [I32, ADDRESS, POINTER],
      hotpath_copy_buffer: [I32, ADDRESS, I32, U32, ADDRESS, U32],
      hotpath_release_buf: [I32, ADDRESS, I32],
      hotpath_wake: [I32, ADDRESS],
      hotpath_event_fd: [I32, ADDRESS],
      hotpath_stats: [I32, ADDRESS, POINTER],
      hotpath_is_healthy: [I32, ADDRESS],
      hotpath_force_unhealthy: [I32, ADDRESS],
      hotpath_backend: [I32, ADDRESS],

      vmclock_open_with: [I32, POINTER, POINTER, POINTER],
      vmclock_close: [I32, ADDRESS],
      vmclock_snapshot: [I32, ADDRESS, ADDRESS],
      vmclock_now: [I32, ADDRESS, ADDRESS],
      vmclock_time_at: [I32, POINTER, U64, POINTER],
      vmclock_wait: [I32, ADDRESS, U32, U32],
      vmclock_wait_until_past: [I32, ADDRESS, I64, U32],
      vmclock_writer_create: [I32, POINTER, U32, POINTER],
      vmclock_writer_write: [I32, ADDRESS, POINTER],
      vmclock_writer_close: [I32, ADDRESS],
      vmclock_writer_remove: [I32, ADDRESS],
      vmclock_calibrator_create: [I32, POINTER],
      vmclock_calibrator_measure: [I32, ADDRESS, POINTER, POINTER],
      vmclock_calibrator_close: [I32, ADDRESS],

      observer_type: [I32, POINTER],
      observer_type_name: [ADDRESS, I32],
      observer_schema_new: [I32, U32, POINTER],
      observer_schema_add: [I32, ADDRESS, POINTER],
      observer_schema_count: [I32, ADDRESS],
      observer_schema_field: [I32, ADDRESS, U32, POINTER],
      observer_schema_free: [I32, ADDRESS],
      observer_open: [I32, ADDRESS, POINTER, SIZE, U64, POINTER, POINTER],
      observer_close: [I32, ADDRESS],
      observer_add_i64: [I32, ADDRESS, U32, I64],
      observer_add_f64: [I32, ADDRESS, U32, F64],
      observer_store_create: [I32, POINTER, POINTER, POINTER],
      observer_store_open: [I32, POINTER, POINTER, POINTER],
      observer_store_close: [I32, ADDRESS],
      observer_store_reopen: [I32, ADDRESS],
      observer_store_segment_size: [I32, ADDRESS],
      observer_store_count: [I32, ADDRESS],
      observer_store_allocate: [I32, ADDRESS, ADDRESS, POINTER, U32],
      observer_store_describe: [I32, ADDRESS, U32, ADDRESS, POINTER, U32],
      observer_store_free: [I32, ADDRESS, U32],
      observer_store_grow: [I32, ADDRESS, U32],
      observer_store_reap: [I32, ADDRESS],
      observer_store_next: [I32, ADDRESS, I32],
      observer_store_worker: [I32, ADDRESS, U32, POINTER],
      observer_store_schema: [I32, ADDRESS, U32, POINTER],
      observer_store_read: [I32, ADDRESS, U32, POINTER, U32],
      observer_store_sum: [I32, ADDRESS, POINTER, POINTER, POINTER],
      observer_store_exposition: [I32, ADDRESS, U32, POINTER, SIZE],

      circbuf_short_name: [I32, POINTER, POINTER, SIZE],
      circbuf_create: [I32, POINTER, POINTER],
      circbuf_configure: [I32, ADDRESS, POINTER],
      circbuf_write: [I32, ADDRESS, POINTER, POINTER, SIZE],
      circbuf_reserve: [I32, ADDRESS, SIZE, POINTER],
      circbuf_commit: [I32, ADDRESS, SIZE],
      circbuf_set_metadata: [I32, ADDRESS, POINTER],
      circbuf_info: [I32, ADDRESS, POINTER],
      circbuf_ring: [I32, ADDRESS, POINTER],
      circbuf_close: [I32, ADDRESS],
      circbuf_detach: [I32, ADDRESS],
      circbuf_mirror_open: [I32, POINTER, POINTER, POINTER],
      circbuf_mirror_close: [I32, ADDRESS],
      circbuf_mirror_format: [I32, ADDRESS, POINTER],
      circbuf_mirror_read: [I32, ADDRESS, ADDRESS, SIZE, ADDRESS, U32, ADDRESS],
      circbuf_mirror_read_time: [I32, ADDRESS, F64, F64, ADDRESS, SIZE, ADDRESS, U32, ADDRESS],
      circbuf_mirror_view: [I32, ADDRESS, U32, POINTER],
      circbuf_mirror_view_is_intact: [I32, ADDRESS, POINTER],
      circbuf_mirror_seek: [I32, ADDRESS, U64],
      circbuf_mirror_wait: [I32, ADDRESS, U32, U32],
      circbuf_mirror_metadata: [I32, ADDRESS, POINTER, SIZE],
      circbuf_mirror_info: [I32, ADDRESS, POINTER],
      circbuf_mirror_ring: [I32, ADDRESS, POINTER],
      circbuf_ring_memory: [I32, ADDRESS, POINTER],
      circbuf_ring_free: [I32, ADDRESS]
    }.freeze

    # What may take a while, and lets other threads run meanwhile.
    UNLOCKED = %i[hotpath_ring_free vmclock_calibrator_measure circbuf_mirror_wait].freeze

    class << self
      # Where the library was found.
      attr_reader :library_path

      # The library: where SHMHOT_LIBRARY says, else the one inside the gem, else the system's.
      def open_library
        candidates = [File.expand_path("libshmhot.so", __dir__), "libshmhot.so.#{ABI_VERSION}"]
        candidates = [ENV["SHMHOT_LIBRARY"]] unless ENV["SHMHOT_LIBRARY"].to_s.empty?
        failures = []
        candidates.each do |path|
          return accept(Fiddle.dlopen(path), path)
        rescue Fiddle::DLError => e
          failures << e.message
        end
        raise LoadError, "cannot load libshmhot: #{failures.join("; ")}. Install it, or set SHMHOT_LIBRARY to its path."
      end

      # The sentence about this thread's last failure.
      def last_error
        text = String.new("\0" * 512, encoding: Encoding::UTF_8)
        length = SHMHOT_LAST_ERROR.call(text, text.bytesize)
        text.byteslice(0, length.clamp(0, text.bytesize - 1)).scrub
      end

      # A text that ends with its NUL, as in C.
      def text(what, text)
        text = String(text).encode(Encoding::UTF_8)
        raise ArgumentError, "#{what} has a NUL" if text.include?("\0")

        text
      end

      # Memory that belongs to +owner+, as an IO::Buffer that keeps it.
      #
      # The new object is an Integer for a moment. The garbage collector finds it all the same: it looks through the
      # stacks of calls that go on, and is not run between these two.
      def buffer(owner, address, size, flags = 0)
        buffer = Fiddle.dlunwrap(IO_BUFFER_NEW.call(address, size, flags | IO::Buffer::EXTERNAL))
        buffer.instance_variable_set(:@owner, owner)
        buffer
      end

      # Where the memory of an IO::Buffer is: for as long as it is not freed.
      def address(buffer)
        address, size = [0].pack("J"), [0].pack("J")
        IO_BUFFER_BYTES.call(Fiddle.dlwrap(buffer), address, size)
        address.unpack1("J")
      end

      private

      def accept(library, path)
        version = Fiddle::Function.new(library["shmhot_abi_version"], [], U32).call
        if version == ABI_VERSION
          @library_path = path
          return library
        end

        raise LoadError, "#{path} has ABI version #{version}, and shmhot #{VERSION} for Ruby needs #{ABI_VERSION}: " \
                         "install the gem and the library of the same release"
      end
    end

    LIBRARY = open_library

    PROTOTYPES.each do |name, (returns, *takes)|
      keeps_lock = !UNLOCKED.include?(name)
      const_set(name.upcase, Fiddle::Function.new(LIBRARY[name.to_s], takes, returns, name: name.to_s, need_gvl: keeps_lock))
    end

    # Ruby's own functions, for an IO::Buffer in memory that belongs to somebody else, and for the memory of an IO::Buffer.
    IO_BUFFER_NEW = Fiddle::Function.new(Fiddle::Handle::DEFAULT["rb_io_buffer_new"], [ADDRESS, SIZE, I32], ADDRESS, need_gvl: true)
    IO_BUFFER_BYTES = Fiddle::Function.new(Fiddle::Handle::DEFAULT["rb_io_buffer_get_bytes_for_reading"],
                                           [ADDRESS, POINTER, POINTER], Fiddle::TYPE_VOID, need_gvl: true)
  end
end
