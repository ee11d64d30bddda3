# frozen_string_literal: true

require "io/wait"

module Shmhot
  # Whether this host has what a HotpathRing needs.
  def self.hotpath_supported?
    HotpathRing.supported?
  end

  # A socket ring on io_uring. There are two ways to drive it, and both may be used on one ring:
  #
  # * A call for each operation, and #each_completion, which yields a Hash for each completion.
  # * The fast path: commands (#accept, #recv, #write, #release, ...) are noted in Ruby's memory, and #turn hands all of
  #   them to the library and brings all completions back in a single call.
  #
  #     ring.accept(listener)
  #     ring.run do |op, fd, result, buf_id|
  #       case op
  #       when OP_ACCEPT then ring.recv(result) if result >= 0
  #       when OP_RECV
  #         if result.positive?
  #           ring.write(fd, ring.payload(buf_id, result).upcase, release: buf_id)
  #         else
  #           ring.close_connection(fd)
  #         end
  #       end
  #     end
  #
  # The meaning of commands and completions is documented in include/shmhot/hotpath.h.
  #
  # A refused command does not raise, since it is carried out only with the next turn. It comes to the block like a
  # completion of its kind: +op+ is the command's number (OP_* for those that have completions, CMD_* for others),
  # +result+ the negative status, and F_REFUSED is set in +flags+.
  #
  # A ring belongs to the thread that uses it first; in another one everything but #wake, #stop, #healthy? and #close
  # raises WrongThreadError, unless the ring was made with +any_thread+. After a fork the child gets ForkError, and may
  # close. Waiting is done in Ruby: Thread#kill, Timeout and signals end it at once, and a fiber scheduler runs others
  # meanwhile. Nothing is lost when a block is left by +break+ or an exception: what it has not seen comes first in the
  # next turn.
  class HotpathRing
    DEFAULT_QUEUE_DEPTH = 1024
    DEFAULT_N_BUFS = 512
    DEFAULT_BUF_SIZE = 8192

    COMPLETION_BYTES = 24
    MAX_BATCH = 64

    OP_ACCEPT = 1
    OP_RECV = 2
    OP_SEND = 3
    OP_CLOSE = 4
    OP_CONNECT = 5
    OP_TIMEOUT = 6
    OP_WAKE = 7
    OP_SHUTDOWN = 8
    OP_DRAIN = 9

    # Commands without a completion: met as +op+ only when refused.
    CMD_RELEASE = 11
    CMD_CANCEL = 12
    CMD_CANCEL_TIMEOUT = 13
    CMD_PAUSE = 14
    CMD_RESUME = 15
    CMD_IDLE_TIMEOUT = 16
    CMD_FORGET = 17

    F_BUFFER = 1
    F_MORE = 2
    F_ENDED = 0x8000_0000
    # Set by this class, and only beside a negative +result+.
    F_REFUSED = 0x4000_0000

    # As timeout_ms: wait without a limit. So does nil.
    NO_TIMEOUT = 0xffff_ffff

    CMD_DRAIN = 18
    RELEASE = 1
    QUIET = 2
    ANY_THREAD = 1
    private_constant :CMD_DRAIN, :RELEASE, :QUIET, :ANY_THREAD

    # Commands and completions are handled as 64-bit words, since that is the cheapest to pack and unpack:
    #   hotpath_command_t     op | flags << 8 | fd << 32,  data,    len | buf_id << 32,  status
    #   hotpath_completion_t  op | fd << 32,               result,  buf_id | flags << 32
    COMMAND_WORDS = 4
    COMPLETION_WORDS = 3
    # The upper half of a word is reached by * and /, for which Ruby has fast paths that << and >> lack.
    HIGH = 1 << 32
    LOW = HIGH - 1
    INT_MAX = (1 << 31) - 1
    SEND = OP_SEND
    SEND_QUIETLY = OP_SEND | (QUIET << 8)
    AND_RELEASE = RELEASE << 8
    private_constant :COMMAND_WORDS, :COMPLETION_WORDS, :HIGH, :LOW, :INT_MAX, :SEND, :SEND_QUIETLY, :AND_RELEASE

    # Commands that one call takes.
    MAX_COMMANDS = 256
    MAX_COMMAND_WORDS = MAX_COMMANDS * COMMAND_WORDS
    BATCH_BYTES = MAX_BATCH * COMPLETION_BYTES
    NO_COMPLETIONS = ("\0" * BATCH_BYTES).b.freeze
    # How to unpack so many completions.
    COMPLETIONS = Array.new(MAX_BATCH + 1) { |count| "q#{count * COMPLETION_WORDS}" }.freeze
    # Small writes are gathered in one arena; of a large one the String itself is shown to the library.
    ARENA_BYTES = 64 * 1024
    SMALL_WRITE = 4 * 1024
    private_constant :MAX_COMMANDS, :MAX_COMMAND_WORDS, :BATCH_BYTES, :NO_COMPLETIONS, :COMPLETIONS, :ARENA_BYTES,
                     :SMALL_WRITE

    # What tells that a sleep has cost a time slice: see #doze.
    LONG_SLEEP = 0.02
    PILE = 8
    private_constant :LONG_SLEEP, :PILE

    IOVEC = "J2"
    IOVEC_BYTES = 16
    IOV_MAX = 1024
    private_constant :IOVEC, :IOVEC_BYTES, :IOV_MAX

    # hotpath_options_t, hotpath_buffers_t, hotpath_stats_t and hotpath_probe_t
    OPTIONS = "JL4Q2"
    OPTIONS_BYTES = 40
    BUFFERS = "JL2"
    BUFFERS_BYTES = 16
    STATS = %i[syscalls submissions completions rearms starvations stale_dropped short_sends queue_full_flushes
               cq_overflows sends_refused buffers_held connections in_flight].freeze
    STATS_BYTES = 8 * (1 + STATS.size)
    BACKENDS = { 1 => :io_uring }.freeze
    PROBE = "x8l x4 Q Z160"
    PROBE_BYTES = 184
    private_constant :PROBE, :PROBE_BYTES, :OPTIONS, :OPTIONS_BYTES, :BUFFERS, :BUFFERS_BYTES, :STATS, :STATS_BYTES, :BACKENDS

    TURN = Native::HOTPATH_TURN
    private_constant :TURN

    # Bytes at an address that does not change: see #pin.
    class Pin
      attr_reader :address, :bytesize

      def initialize(string)
        @bytesize = string.bytesize
        @memory = Fiddle::Pointer.malloc([@bytesize, 1].max, Fiddle::RUBY_FREE)
        @memory[0, @bytesize] = string
        @address = @memory.to_i
        freeze
      end
    end
    private_constant :Pin

    class << self
      # Whether this host has what a ring needs.
      def supported?
        Native::HOTPATH_SUPPORTED.call == 1
      end

      # What the kernel offers: the names of its features by +:features+, or by +:reason+ why io_uring is refused.
      def probe
        out = [PROBE_BYTES].pack("J").ljust(PROBE_BYTES, "\0")
        Shmhot.check(Native::HOTPATH_PROBE.call(out))
        status, bits, reason = out.unpack(PROBE)
        names = (0...64).map { |bit| Native::HOTPATH_FEATURE_NAME.call(bit) }.take_while(&:positive?)
        features = names.each_index.select { |bit| bits[bit] == 1 }.map { |bit| Fiddle::Pointer.new(names[bit]).to_s }
        { supported: supported?, errno: -status, reason: reason.empty? ? nil : reason, features: features }
      end

      private

      # Frees a ring that nobody closed; it must not hold the ring itself.
      def finalizer(address)
        proc { Native::HOTPATH_RING_FREE.call(address) }
      end
    end

    # The C ring as a Fiddle::Pointer, nil when it is closed.
    attr_reader :ptr

    # queue_depth:: entries of the submission queue
    # n_bufs, buf_size:: receive buffers: how many (a power of two), and of how many bytes
    # any_thread:: usable from any one thread at a time
    # max_queued_bytes:: how much may wait to be sent on one connection; nil is the library's default
    # max_queued_total:: how much may wait on all connections together
    #
    # Raises Unsupported, which says what the host lacks or which argument is wrong.
    def initialize(queue_depth: DEFAULT_QUEUE_DEPTH, n_bufs: DEFAULT_N_BUFS, buf_size: DEFAULT_BUF_SIZE,
                   any_thread: false, max_queued_bytes: nil, max_queued_total: nil)
      # The library takes 0 for "the default".
      { queue_depth: queue_depth, n_bufs: n_bufs, buf_size: buf_size }.each do |name, size|
        raise Unsupported, "#{name} is #{size}, and must be at least 1" unless size.between?(1, LOW)
      end
      options = [OPTIONS_BYTES, queue_depth, n_bufs, buf_size, any_thread ? ANY_THREAD : 0,
                 max_queued_bytes.to_i, max_queued_total.to_i].pack(OPTIONS)
      @address = Native::HOTPATH_RING_NEW_WITH.call(options)
      raise Unsupported, Native.last_error if @address.zero?

      @ptr = Fiddle::Pointer.new(@address)
      @any_thread = any_thread
      ObjectSpace.define_finalizer(self, self.class.send(:finalizer, @address))
      @closed = @stopped = false
      prepare
    end

    # Frees the ring and all that it has in flight; descriptors stay open. Another thread that waits on it wakes up.
    def close
      return if @closed

      Thread.handle_interrupt(Object => :never) do
        mine = @owner.equal?(Thread.current)
        address = @address
        @closed = true
        @address = @n_bufs = 0
        @ptr = @owner = @pool = nil
        ObjectSpace.undefine_finalizer(self)
        Native::HOTPATH_WAKE.call(address) unless mine
        Native::HOTPATH_RING_FREE.call(address)
        @event.close if mine
      end
      nil
    end

    def closed?
      @closed
    end

    # Makes every later call answer that the ring has been given up.
    def force_unhealthy!
      Native::HOTPATH_FORCE_UNHEALTHY.call(@address)
    end

    def healthy?
      Native::HOTPATH_IS_HEALTHY.call(@address) == 1
    end

    # A call for each operation.

    # Accepts connections until cancelled: an OP_ACCEPT for each.
    def submit_accept_multishot(listener_fd)
      fd = listener_fd.to_i
      own
      Shmhot.check(Native::HOTPATH_SUBMIT_ACCEPT.call(@address, fd))
      nil
    end

    # Receives until the end of the stream: an OP_RECV for each piece.
    def submit_recv_multishot(fd)
      fd = fd.to_i
      own
      Shmhot.check(Native::HOTPATH_SUBMIT_RECV.call(@address, fd))
      nil
    end

    # Sends what an array of struct iovec (a Fiddle::Pointer, an address, or its bytes in a String) describes; an
    # OP_SEND tells when it is sent. Array and bytes are copied, and may go at once.
    def submit_send(fd, iov_ptr, iov_count)
      Shmhot.check(copy_and_send(fd.to_i, iov_ptr, iov_count.to_i))
      nil
    end

    # Sends what is submitted, waits until min_complete completions are there or the time is over, and yields at most
    # MAX_BATCH of them, each a Hash. Returns their number, which is 0 too when the ring is closed or unhealthy.
    def each_completion(min_complete: 1, timeout_ms: 100)
      begin
        await(min_complete, timeout_ms)
      rescue UnhealthyError, ClosedError
        return 0
      end
      deliver(MAX_BATCH) do |op, fd, result, buf_id, flags|
        yield(op_kind: op, fd: fd, result: result, buf_id: buf_id, flags: flags)
      end
    end

    # A copy of the first +len+ bytes of a buffer, which has to be released.
    def copy_buffer(buf_id, len)
      buf_id = buf_id.to_i
      len = len.to_i
      own
      @copy[0, Shmhot.check(Native::HOTPATH_COPY_BUFFER.call(@address, buf_id, len, @copy_at, @buf_size))]
    end

    # Gives a buffer back to the kernel. Returns 0, or -errno for one that was not held.
    def release_buffer(buf_id)
      buf_id = buf_id.to_i
      own
      Native::HOTPATH_RELEASE_BUF.call(@address, buf_id)
    end

    # The fast path: commands, carried out by the next turn. Where a descriptor is expected, an IO does as well.

    # Accepts connections on +listener+ until cancelled: an OP_ACCEPT for each, whose result is the new descriptor.
    def accept(listener)
      command(OP_ACCEPT, descriptor(listener, keep: true))
    end

    # Connects a socket to a packed address (Socket.sockaddr_in and the like); OP_CONNECT tells.
    def connect(socket, sockaddr)
      fd = descriptor(socket, keep: true)
      exchange if @commands.size == MAX_COMMAND_WORDS # before staging, which lasts until an exchange
      command(OP_CONNECT, fd, stage(sockaddr), sockaddr.bytesize)
    end

    # Receives until the end of the stream: an OP_RECV for each piece, whose bytes #payload gives.
    def recv(fd)
      command(OP_RECV, descriptor(fd))
    end

    # Sends a copy of +data+, a String or what #pin gave, after all that is queued on +fd+, an Integer.
    # release:: a receive buffer to give back along with it
    # notify:: whether an OP_SEND tells when it is sent; a failure is told in any case
    def write(fd, data, release: nil, notify: false)
      claim unless @owner.equal?(Thread.current)
      raise Errno::EBADF, "#{fd.inspect} is no descriptor" if fd & INT_MAX != fd
      exchange if @commands.size == MAX_COMMAND_WORDS
      at = data.is_a?(Pin) ? data.address : stage(data)
      head = (notify ? SEND : SEND_QUIETLY) + (fd * HIGH)
      if release
        raise RangeError, "no buffer has the id #{release.inspect}" if release & INT_MAX != release
        @commands.push(head + AND_RELEASE, at, data.bytesize + (release * HIGH), 0)
      else
        @commands.push(head, at, data.bytesize, 0)
      end
      nil
    end

    # What is sent again and again: #write takes it in place of a String, and sooner. It is kept until the ring goes.
    def pin(string)
      @pins << Pin.new(string)
      @pins.last
    end

    # Gives a receive buffer back to the kernel.
    def release(buf_id)
      command(CMD_RELEASE, -1, 0, 0, buf_id)
    end

    # Closes +fd+ when everything queued is sent, after +timeout_ms+ at the latest; OP_CLOSE tells. The library closes
    # the descriptor itself: an IO object of the same number must not.
    def close_connection(fd, timeout_ms: nil)
      fd.autoclose = false if fd.respond_to?(:autoclose=)
      number = descriptor(fd)
      command(OP_CLOSE, number, 0, milliseconds(timeout_ms || NO_TIMEOUT))
      @sockets.delete(number)
      nil
    end

    # Ends the sending half of +fd+ when everything queued is sent; OP_SHUTDOWN tells.
    def half_close(fd)
      command(OP_SHUTDOWN, descriptor(fd))
    end

    # To be called before the host itself closes +fd+: nothing more is told about it.
    def forget(fd)
      number = descriptor(fd)
      command(CMD_FORGET, number)
      @sockets.delete(number)
      nil
    end

    # Ends what is at work on +fd+: all, or only the kinds given as OP_*. Each ends with its completion.
    def cancel(fd, *ops)
      ops.each { |op| raise ArgumentError, "#{op} is no OP_*" unless op.between?(OP_ACCEPT, OP_DRAIN) }
      command(CMD_CANCEL, descriptor(fd), 0, ops.uniq.sum { |op| 1 << op })
    end

    # Stops receiving on +fd+, or accepting, until #resume.
    def pause(fd)
      command(CMD_PAUSE, descriptor(fd))
    end

    def resume(fd)
      command(CMD_RESUME, descriptor(fd))
    end

    # One OP_RECV with -ETIMEDOUT each time that nothing was received or sent for so long. 0 turns it off.
    def idle_timeout(fd, timeout_ms)
      command(CMD_IDLE_TIMEOUT, descriptor(fd), 0, milliseconds(timeout_ms))
    end

    # One OP_TIMEOUT after so long, whose result is +id+. It replaces a pending one of the same id.
    def timeout(id, timeout_ms)
      command(OP_TIMEOUT, -1, int64(id), milliseconds(timeout_ms))
    end

    def cancel_timeout(id)
      command(CMD_CANCEL_TIMEOUT, -1, int64(id))
    end

    # Stops accepting. OP_DRAIN tells when the last connection is closed or the time is over; its result is the number
    # of connections that are still open.
    def drain(timeout_ms: nil)
      command(CMD_DRAIN, -1, 0, milliseconds(timeout_ms || NO_TIMEOUT))
    end

    # The fast path: turns.

    # Hands all commands to the library, waits until min_complete completions are there or the time is over (nil: no
    # limit, 0: only look), and yields each as |op, fd, result, buf_id, flags|. Returns their number.
    def turn(min_complete: 1, timeout_ms: nil, &block)
      await(min_complete, timeout_ms)
      deliver(INT_MAX, &block)
    end

    # Turns until #stop is called.
    def run(&block)
      turn(&block) until @stopped
    ensure
      @stopped = false
    end

    # Ends #run after its turn. May be called from any thread and from a signal handler.
    def stop
      @stopped = true
      wake
    end

    # Ends a wait: an OP_WAKE arrives. May be called from any thread and from a signal handler.
    def wake
      Native::HOTPATH_WAKE.call(@address)
      nil
    end

    # The bytes of a receive buffer, read without a call. They are there until the buffer is released.
    def payload(buf_id, length)
      if buf_id < 0 || buf_id >= @n_bufs || length > @buf_size
        raise RangeError, "no #{length} bytes in a buffer #{buf_id}: there are #{@n_bufs} of #{@buf_size} bytes"
      end

      @pool[buf_id * @buf_size, length]
    end

    # Readable while completions wait, for IO.select and other loops. Only to be waited for.
    def to_io
      own
      @event
    end

    # The descriptor of #to_io.
    def event_fd
      to_io.fileno
    end

    # What the ring has done so far: counters by name.
    def stats
      out = [STATS_BYTES].pack("J").ljust(STATS_BYTES, "\0")
      own
      Shmhot.check(Native::HOTPATH_STATS.call(@address, out))
      STATS.zip(out.unpack("x8Q*")).to_h
    end

    def backend
      BACKENDS.fetch(Shmhot.check(Native::HOTPATH_BACKEND.call(@address)))
    end

    def inspect
      "#<#{self.class}#{" closed" if @closed}>"
    end

    private

    # Memory that the library reads and writes. Strings of this size keep their address as long as they stay within
    # their capacity.
    def prepare
      @commands = []
      @spare = []
      @packed = memory(MAX_COMMAND_WORDS * 8)
      @given = memory(MAX_COMMAND_WORDS * 8)
      @given_at = Fiddle::Pointer[@given].to_i
      @out = memory(BATCH_BYTES)
      @out_at = Fiddle::Pointer[@out].to_i
      # How many commands the call took whose results have not been collected.
      @under_way = nil
      # Completions not yet yielded: the words of a batch, and where the next one begins.
      @words = []
      @cursor = 0
      @patience = 0
      @n_bufs = 0
      @arena = memory(ARENA_BYTES)
      @arena_at = Fiddle::Pointer[@arena].to_i
      @large = []
      unstage
      @pins = []
      # IO objects that must not be collected, since that would close their descriptors.
      @sockets = {}
    end

    def memory(bytes)
      String.new(capacity: bytes) << ("\0" * bytes).b
    end

    # Comes before everything that only the owner may do. Another thread may close the ring at any time, so @address is
    # read when nothing but the call is left to do.
    def own
      claim unless @owner.equal?(Thread.current)
    end

    def claim
      raise ClosedError, "the ring is closed" if @closed

      if @owner.nil?
        bind
      elsif !@any_thread
        raise WrongThreadError, "this ring belongs to the thread that used it first (any_thread: true lifts that)"
      end
      @owner = Thread.current
    end

    # What only the owner may ask the library for.
    def bind
      event_fd = Shmhot.check(Native::HOTPATH_EVENT_FD.call(@address))
      # A duplicate outlives the ring: who sleeps on it when another thread closes the ring must not meet a stranger.
      @event = IO.for_fd(event_fd, "r", autoclose: false).dup
      out = "\0" * BUFFERS_BYTES
      Shmhot.check(Native::HOTPATH_BUFFERS.call(@address, out))
      base, @buf_size, @n_bufs = out.unpack(BUFFERS)
      @pool = Fiddle::Pointer.new(base, @buf_size * @n_bufs)
      @copy = Fiddle::Pointer.malloc(@buf_size, Fiddle::RUBY_FREE)
      @copy_at = @copy.to_i
    end

    # Waiting.

    # Looks without letting go of the interpreter lock, and sleeps only when there is nothing to do.
    def await(min_complete, timeout_ms)
      exchange
      wanted = min_complete * COMPLETION_WORDS
      return if @words.size - @cursor >= wanted || timeout_ms == 0

      deadline = now + (timeout_ms / 1000.0) unless timeout_ms.nil? || timeout_ms == NO_TIMEOUT
      while @words.size - @cursor < wanted
        left = deadline - now if deadline
        break if left && left <= 0

        @patience > 0 ? linger : doze(left)
      end
    end

    # Sleeping lets go of the lock, and beside a thread that computes that costs a time slice, a tenth of a second
    # in which requests pile up. Where that has just happened, the next gaps are waited out with the lock kept, a
    # millisecond at a time, until a fifth of what the other thread had is used up.
    def doze(seconds)
      began = now
      @event.wait_readable(seconds)
      slept = now - began
      exchange
      @patience = slept / 5 if slept > LONG_SLEEP && @words.size - @cursor >= PILE * COMPLETION_WORDS
    end

    def linger
      began = now
      exchange(1)
      @patience -= now - began
    end

    def now
      Process.clock_gettime(Process::CLOCK_MONOTONIC)
    end

    # Exceptions from outside (Thread#raise, Timeout, signals) come up when a method returns, native ones included, and
    # at branches, but not between assignments. The three methods below are ordered so that none of them can lose or
    # repeat a command or a completion.

    # Yields what has been collected. The cursor moves right before the block is entered, which may leave, or make
    # another turn.
    def deliver(limit)
      delivered = 0
      while @cursor < @words.size && delivered < limit
        words = @words
        at = @cursor
        head = words[at]
        tail = words[at + 2]
        buf_id = tail & LOW
        buf_id = -1 if buf_id == LOW
        delivered += 1
        @cursor = at + COMPLETION_WORDS
        yield head & 0xff, head / HIGH, words[at + 1], buf_id, (tail / HIGH) & LOW
      end
      delivered
    end

    # One call: all commands in, completions out; without a timeout it does not wait.
    def exchange(timeout_ms = 0)
      own
      collect(nil) if @under_way # the last call returned with an exception, and its count is lost
      commands = @commands
      if commands.empty?
        @under_way = 0
      else
        commands.pack("@0q*", buffer: @packed)
        @given[0, @packed.bytesize] = @packed
        @spare.clear
        @under_way = commands.size / COMMAND_WORDS
        @commands = @spare
        @spare = commands
      end
      collect(TURN.call(@address, @given_at, @under_way, 1, timeout_ms, @out_at, MAX_BATCH))
      unstage if @staged
    end

    # Takes over what a call has brought. Without a count, the completions are counted.
    def collect(count)
      count ||= (0...MAX_BATCH).find { |i| @out.getbyte(i * COMPLETION_BYTES).zero? } || MAX_BATCH
      if count < 0
        @under_way = nil
        own # the ring may just have been closed
        raise Shmhot.error_for(count)
      end
      any_refused = @under_way > 0 && !@given.start_with?(@packed)
      return @under_way = nil unless count > 0 || any_refused

      words = @out.unpack(COMPLETIONS[count])
      # Commands come before what they bring about, and so do their refusals.
      words = refused.concat(words) if any_refused
      words = @words.drop(@cursor).concat(words) if @cursor < @words.size
      @words = words
      @cursor = 0
      @under_way = nil
      @out[0, BATCH_BYTES] = NO_COMPLETIONS
    end

    # Refused commands as completions.
    def refused
      @given.unpack("q#{@under_way * COMMAND_WORDS}").each_slice(COMMAND_WORDS).flat_map do |head, _data, tail, status|
        next [] if status.zero?

        status -= HIGH # a negative number of 32 bits

        command = head & 0xff
        op = command == CMD_DRAIN ? OP_DRAIN : command
        releases = command == CMD_RELEASE || (head & AND_RELEASE).positive?
        buf_id = releases ? tail / HIGH : LOW
        [(head & ~LOW) | op, status, buf_id + (F_REFUSED * HIGH)]
      end
    end

    # Commands.

    def command(op, fd, data = 0, len = 0, buf_id = 0)
      claim unless @owner.equal?(Thread.current)
      raise RangeError, "no buffer has the id #{buf_id.inspect}" if buf_id & INT_MAX != buf_id
      exchange if @commands.size == MAX_COMMAND_WORDS
      @commands.push(op + (fd * HIGH), data, len + (buf_id * HIGH), 0)
      nil
    end

    def descriptor(io, keep: false)
      fd = io.respond_to?(:fileno) ? io.fileno : Integer(io)
      raise Errno::EBADF, "#{fd} is no descriptor" unless fd.between?(0, INT_MAX)

      @sockets[fd] = io if keep && !io.is_a?(Integer)
      fd
    end

    def milliseconds(time)
      time = Integer(time)
      time.between?(0, NO_TIMEOUT) ? time : raise(RangeError, "#{time} is no time in ms: 0 to #{NO_TIMEOUT}")
    end

    def int64(number)
      number.bit_length < 64 ? number : raise(RangeError, "#{number} does not fit into 64 bits")
    end

    # Keeps a String's bytes at an address until the exchange in which the library copies them.
    def stage(string)
      bytes = string.bytesize
      return stage_large(string) if bytes > SMALL_WRITE

      exchange if @arena.bytesize + bytes > ARENA_BYTES
      @staged = true
      at = @arena_at + @arena.bytesize
      @arena << (string.encoding == Encoding::BINARY || string.ascii_only? ? string : string.b)
      at
    end

    # A duplicate shares the memory, and keeps it when the original changes.
    def stage_large(string)
      raise ArgumentError, "#{string.bytesize} bytes do not fit into one write" if string.bytesize > LOW

      @staged = true
      string = string.dup unless string.frozen?
      @large << string
      Fiddle::Pointer[string].to_i
    end

    # A byte that is not ASCII stays in the arena, so that it stays binary whatever comes after it.
    def unstage
      @large.clear
      @arena.setbyte(0, 0xff)
      [].pack("@1", buffer: @arena)
      @staged = false
    end

    def copy_and_send(fd, iov, iov_count)
      iov = Fiddle::Pointer[iov || 0] unless iov.is_a?(Fiddle::Pointer)
      own
      # The library says what is wrong with these.
      return Native::HOTPATH_SUBMIT_SEND.call(@address, fd, iov, iov_count) if iov.null? || !iov_count.between?(1, IOV_MAX)

      if iov_count == 1
        at, length = iov[0, IOVEC_BYTES].unpack(IOVEC)
      else
        pieces = iov[0, iov_count * IOVEC_BYTES].unpack(IOVEC * iov_count).each_slice(2)
        bytes = pieces.map { |base, size| size.zero? ? "" : Fiddle::Pointer.new(base)[0, size] }.join
        at = Fiddle::Pointer[bytes].to_i
        length = bytes.bytesize
      end
      Native::HOTPATH_SEND.call(@address, fd, at, length, 0)
    end
  end
end
