# frozen_string_literal: true

module Shmhot
  # Reads a signal from shared memory, which CircBuff or ezmsg-tools writes: frames as a whole, each once, and how many were
  # lost.
  #
  #   Shmhot::CircMirror.open("eeg") do |mirror|
  #     mirror.each do |frames, times, span|
  #       warn "#{span.lost} frames lost" if span.lost.positive?
  #       p times.last, span.format.unpack(frames).last
  #     end
  #   end
  #
  # The stream need not be there yet. The mirror finds it, and follows it through new formats and new writers.
  #
  # Threads may share a mirror, where each frame is read by one of them, and a forked child may go on with it. A wait is in
  # the library, and asleep until the writer writes; Thread#kill and Timeout end it within WAIT_SECONDS, signals at once.
  class CircMirror < Handle
    include Enumerable

    # How long a wait goes on in the library before Ruby looks what else there is to be done.
    WAIT_SECONDS = 0.02
    # How often a wait looks for frames under a fiber scheduler, which runs other fibers meanwhile.
    INTERVAL = 0.001

    FROM_NOW = 1
    OPTIONS = "JLL" # circbuf_mirror_options_t
    OPTIONS_BYTES = 16
    SPAN = "JQQQQLL" # circbuf_span_t
    SPAN_BYTES = 48
    VIEW = "JQQQQQQ2J2J2LL" # circbuf_view_t
    VIEW_BYTES = 104
    # Bytes that one read copies, at most.
    ROOM = 16 << 20
    LAST = (1 << 64) - 1
    ALL = (1 << 32) - 1
    ENOENT = -Errno::ENOENT::Errno
    EAGAIN = -Errno::EAGAIN::Errno
    ESTALE = -Errno::ESTALE::Errno
    ENODATA = -Errno::ENODATA::Errno
    EOWNERDEAD = -Errno::EOWNERDEAD::Errno
    private_constant :FROM_NOW, :OPTIONS, :OPTIONS_BYTES, :SPAN, :SPAN_BYTES, :VIEW, :VIEW_BYTES, :ROOM, :LAST, :ALL,
                     :ENOENT, :EAGAIN, :ESTALE, :ENODATA, :EOWNERDEAD

    # Which frames were read.
    #
    # first:: number of the first. Frames are numbered from the making of the stream; those of another library's writers
    #         from the begin of their ring.
    # count:: how many
    # lost:: how many before the first were lost, since the last span. Exact when the writer is this library's.
    # ring:: which ring of this mirror they are of, from 1
    # metadata_generation:: changes when the static metadata does; 0 when there is none
    # format:: their CircBuff::Format
    Span = Struct.new(:first, :count, :lost, :ring, :metadata_generation, :format)

    # Memory that frames of one format are copied to: a span, timestamps, frames.
    class Room
      attr_reader :format, :count, :span, :times, :frames, :frames_size

      def initialize(format)
        @format = format
        @count = [format.frames, [ROOM / (format.frame_size + 8), 1].max].min
        @frames_size = @count * format.frame_size
        @times_at = SPAN_BYTES
        @frames_at = @times_at + (@count * 8)
        @memory, @span = allocate(@frames_at + @frames_size)
        @times = @span + @times_at
        @frames = @span + @frames_at
        @memory.set_value(:u64, 0, SPAN_BYTES)
      end

      # What was copied, in memory of its own.
      def take
        _, first, count, lost, ring, metadata_generation = @memory.get_string(0, SPAN_BYTES).unpack(SPAN)
        span = Span.new(first, count, lost, ring, metadata_generation, @format)
        return span if count.zero?

        size = count * @format.frame_size
        frames, = allocate(size)
        frames.copy(@memory, 0, size, @frames_at)
        [span, frames, @memory.get_string(@times_at, count * 8).unpack("d*")]
      end

      private

      # An IO::Buffer and its address. Not by IO::Buffer.new: the garbage collector does not know how much that holds.
      def allocate(size)
        memory = Fiddle::Pointer.malloc(size, Fiddle::RUBY_FREE)
        [Native.buffer(memory, memory.to_i, size), memory.to_i]
      end
    end
    private_constant :Room

    # from_now:: begins with the frames that are written from now on, and not with the oldest that is there
    def initialize(name, from_now: false)
      name = Native.text("name", name)
      options = [OPTIONS_BYTES, from_now ? FROM_NOW : 0, 0].pack(OPTIONS)
      hold(Native::CIRCBUF_MIRROR_CLOSE) { |out| Native::CIRCBUF_MIRROR_OPEN.call(name, options, out) }
      @turn = Mutex.new
      @waiting = []
      @untold = 0
    end

    # What the frames are that were read last, or those to come, a CircBuff::Format; nil when there are none. That of a span
    # is its own.
    def format
      @turn.synchronize { room&.format }
    end

    # Copies the frames that come next: as many as there are, though no more than +count+, nor than 16 MiB. Returns nil when
    # there are none; otherwise the frames in an IO::Buffer, their timestamps in an Array, and a Span.
    #
    # Where the layout has no timestamps they are counted from the begin of the ring by the rate, and NaN without a rate.
    def read(count = nil)
      copy(count) { |*to| Native::CIRCBUF_MIRROR_READ.call(@address, *to) }
    end

    # Copies the frames of a range of time, such as 10.0...11.0, as #read does. What that reads next stays as it is.
    #
    # Timestamps must ascend for that; frames without any are an Errno::ENODATA.
    def read_time(range, count = nil)
      from = Float(range.begin || -Float::INFINITY)
      to = Float(range.end || Float::INFINITY)
      to = to.next_float unless range.exclude_end?
      copy(count) { |*room| Native::CIRCBUF_MIRROR_READ_TIME.call(@address, from, to, *room) }
    end

    # Yields what #read gives, and waits for more: until the writer has ended or died, or there was nothing for +timeout+
    # seconds. To be called again for the next writer.
    def each(timeout: nil)
      return to_enum(__method__, timeout: timeout) unless block_given?

      while (piece = read) || wait(timeout: timeout)
        yield(*piece) if piece
      end
      self
    end

    # Yields the frames that come next, +count+ at most, where they are in the ring: IO::Buffers of frames and timestamps
    # (nil when the layout has none), and a Span. Twice, where the end of the ring is in between.
    #
    # The writer goes on meanwhile. Returns whether what was yielded is still what it was: true or false; nil when there
    # was nothing to yield.
    def view(count = nil)
      out, format, memory = @turn.synchronize { look(count || ALL) }
      return unless out

      _, first, count, lost, ring, index, *counts, metadata_generation = out.unpack(VIEW).values_at(0..7, 12)
      return unless (span = tell(Span.new(first, count, lost, ring, metadata_generation, format)))

      memory.parts(index, counts).zip(counts.reject(&:zero?)) do |(frames, times), part|
        yield frames, times, Span.new(span.first, part, span.lost, ring, metadata_generation, format)
        span.first += part
        span.lost = 0
      end
      accept(Native::CIRCBUF_MIRROR_VIEW_IS_INTACT.call(@address, out)) == 1
    end

    # Waits until +count+ frames can be read, or as many as the ring holds. Returns how many there are.
    #
    # Returns nil when the timeout, in seconds, is over, or the writer: #state tells which. That the writer has ended or died
    # is told once, at once; another wait is for the next writer.
    def wait(count = 1, timeout: nil)
      deadline = monotonic + timeout if timeout
      has_scheduler = Fiber.current_scheduler
      loop do
        left = deadline ? (deadline - monotonic).clamp(0, WAIT_SECONDS) : WAIT_SECONDS
        status = look_for(count, has_scheduler ? 0 : (left * 1000).ceil)
        case status
        when ESTALE then next @turn.synchronize { renew }
        when EOWNERDEAD, ENODATA then return if end_is_news?
        when 0, ENOENT then nil
        else return accept(status)
        end
        return if deadline && monotonic >= deadline

        sleep(INTERVAL) if has_scheduler
      end
    end

    # Goes to the frame of this number, or to the nearest that is there; or to the :oldest, or past the :newest.
    def seek(number)
      number = { oldest: 0, newest: LAST }.fetch(number, number)
      accept(Native::CIRCBUF_MIRROR_SEEK.call(@address, number))
      nil
    end

    # What does not change from frame to frame, a Hash: docs/circbuf.md says what it has. nil when there is nothing.
    #
    # What other processes have written is decoded as data: nothing of it is executed.
    def metadata
      room = 1 << 12
      loop do
        text = "\0".b * room
        length = Native::CIRCBUF_MIRROR_METADATA.call(@address, text, room)
        return if length == ENODATA

        accept(length)
        return JSON.parse(text.byteslice(0, length).force_encoding(Encoding::UTF_8)) if length < room

        room = length * 2
      end
    end

    # What there is to know of the stream, a CircBuff::Info.
    def info
      CircBuff::Info.read { |out| accept(Native::CIRCBUF_MIRROR_INFO.call(@address, out)) }
    end

    # Whether there is a writer, as of CircBuff::Info: :alive, :dead, :ended, ...
    def state
      info.state
    end

    def alive?
      state == :alive
    end

    def dead?
      state == :dead
    end

    def ended?
      state == :ended
    end

    private

    # The room for frames of the format that was asked for last, or of the one that there is now.
    def room
      @room || renew
    end

    # Asks what the frames are.
    def renew
      @room = @memory = nil
      format = CircBuff::Format.read { |out| !none?(Native::CIRCBUF_MIRROR_FORMAT.call(@address, out)) }
      @room = Room.new(format) if format
    end

    # Calls the block, and again when the format is another one. Returns its status; nil when there is no stream, or no
    # format yet.
    def in_format
      refuse_closed if closed?
      loop do
        return unless (room = self.room)

        status = yield room
        next renew if status == ESTALE

        return none?(status) ? nil : status
      end
    end

    def none?(status)
      status == ENOENT || status == EAGAIN || !accept(status)
    end

    def copy(limit)
      span, frames, times = @turn.synchronize do
        in_format { |room| yield room.frames, room.frames_size, room.times, limit || ALL, room.span } && room.take
      end
      [frames, times, span] if span && tell(span)
    end

    # Has a span tell what was lost. Returns whether it has frames.
    def tell(span)
      @untold += span.lost
      return if span.count.zero?

      span.lost, @untold = @untold, 0
      span
    end

    # The memory is asked for before the frames: these are then of that ring, or ESTALE.
    def look(limit)
      out = [VIEW_BYTES].pack("J").ljust(VIEW_BYTES, "\0")
      status = in_format do
        @memory ||= CircBuff.const_get(:Memory).new { |ring| Native::CIRCBUF_MIRROR_RING.call(@address, ring) }
        Native::CIRCBUF_MIRROR_VIEW.call(@address, limit, out)
      end
      [out, @room.format, @memory] if status
    rescue Errno::EAGAIN
      nil # the stream has just gone
    end

    # The call lets go of the interpreter lock.
    def look_for(count, timeout_ms)
      @waiting << Thread.current
      Native::CIRCBUF_MIRROR_WAIT.call(@address, count, timeout_ms)
    ensure
      @waiting.delete(Thread.current)
    end

    # When the calls of other threads are over. In a forked child those threads are no more, and in a signal handler the
    # call of this one is over.
    def let_go(free = @free)
      super(lambda do |address|
        sleep(INTERVAL) while @waiting.any? { |thread| thread.alive? && thread != Thread.current }
        free.call(address)
      end)
    end

    # Whether an end was not told before.
    def end_is_news?
      info = self.info
      ended = [info.state, info.pid, info.generation, info.written]
      return false if ended == @told || !%i[dead ended].include?(info.state)

      @told = ended
      true
    end

    def monotonic
      Process.clock_gettime(Process::CLOCK_MONOTONIC)
    end
  end
end
