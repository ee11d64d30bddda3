# frozen_string_literal: true

require "json"

module Shmhot
  # Writes a signal into shared memory: frames of numbers, in a ring. Any number of readers, CircMirror or ezmsg-tools,
  # follow it, and none can disturb it.
  #
  #   Shmhot::CircBuff.open("eeg", dtype: :f32, shape: 64, rate: 1000, seconds: 10) do |stream|
  #     stream.metadata = { dims: %w[time ch] }
  #     stream.write(samples) # an IO::Buffer, a String of bytes, or Arrays of numbers
  #   end
  #
  # A stream may be written by any thread; a forked child gets ForkError. docs/circbuf.md says what readers see.
  class CircBuff < Handle
    LAYOUTS = { 2 => 0, 1 => 1, 0 => 2 }.freeze # CIRCBUF_LAYOUT_*
    OPTIONS = "JJJLL" # circbuf_options_t
    OPTIONS_BYTES = 32
    RESERVATION = "JQQQ2J2J2" # circbuf_reservation_t
    RESERVATION_BYTES = 72
    SHORT_NAME_BYTES = 24
    COPIED = 4096
    private_constant :LAYOUTS, :OPTIONS, :OPTIONS_BYTES, :RESERVATION, :RESERVATION_BYTES, :SHORT_NAME_BYTES, :COPIED

    # What the stream is called in /dev/shm.
    def self.short_name(name)
      out = "\0".b * SHORT_NAME_BYTES
      Shmhot.check(Native::CIRCBUF_SHORT_NAME.call(Native.text("name", name), out, out.bytesize))
      out.unpack1("Z*").force_encoding(Encoding::UTF_8)
    end

    # What the frames are, a Format; nil when that was not said yet.
    attr_reader :format

    # What was said to be published; nil when nothing was.
    attr_reader :metadata

    # layout:: 2; 1 or 0 for readers of ezmsg-tools before 0.10 or 0.4, which have no timestamps
    # mode:: permissions; by default for the owner only
    #
    # and what the frames are, unless #configure is to say it:
    #
    # dtype:: type of the numbers: one of IO::Buffer, such as :f32 or :s16 (see Format::TYPES), or numpy's character
    # shape:: length of each dimension of a frame; one number for one dimension, and none for frames of one number
    # frames:: how many the ring holds; or
    # seconds:: for how long it holds them
    # rate:: frames per second; 0 when they are irregular
    # key:: what the source calls itself
    # start:: time of the first frame, for timestamps that are derived from the rate
    #
    # Another living writer of that name is an Errno::EBUSY; what a dead one has left is taken over.
    def initialize(name, layout: 2, mode: 0o600, **format)
      @wish = Wish.new(**format) unless format.empty?
      name = Native.text("name", name)
      flags = LAYOUTS.fetch(layout) { raise ArgumentError, "layout is #{layout.inspect}, and must be 2, 1 or 0" }
      format = @wish&.pack
      addresses = [name, format].map { |bytes| bytes ? Fiddle::Pointer[bytes].to_i : 0 }
      options = [OPTIONS_BYTES, *addresses, flags, mode].pack(OPTIONS)
      hold(Native::CIRCBUF_CLOSE) { |out| Native::CIRCBUF_CREATE.call(options, out) }
      @turn = Mutex.new
      take_format if format
    end

    # Says what the frames are from now on, by the keywords of #initialize; what is not given stays as it is. Another
    # format than before begins a new ring. Returns whether it is another.
    def configure(**format)
      @turn.synchronize do
        wish = @wish ? @wish.with(**format) : Wish.new(**format)
        is_new = accept(Native::CIRCBUF_CONFIGURE.call(@address, wish.pack)).positive?
        @wish = wish
        take_format
        is_new
      end
    end

    # Writes frames, any number of them: of more than the ring holds, the last. Returns how many.
    #
    # frames:: their bytes, one frame after the other, as an IO::Buffer or a String; or numbers, in Arrays of Arrays
    # timestamps:: ascending seconds of any clock, one for each frame: in an Array, or as :f64 in an IO::Buffer. Without,
    #              they go on from the last one by the rate.
    def write(frames, timestamps: nil)
      @turn.synchronize do
        in_memory(frames) do |memory, size|
          count, rest = size.divmod(format.frame_size)
          raise ArgumentError, "#{size} bytes are no whole number of frames, which have #{format.frame_size}" unless rest.zero?

          times = times(timestamps, count) if timestamps
          accept(Native::CIRCBUF_WRITE.call(@address, memory, times, count))
          count
        end
      end
    end

    # Gives room for frames in the ring, to be filled in place: IO::Buffers for the frames and for their timestamps, where
    # those derived from the rate are already; nil when the layout has none. The oldest frames are gone at once.
    #
    # With a block, yields these, and publishes them after it; if it does not come to its end, nothing is published. Where
    # the end of the ring is in between, it yields twice. Returns +count+.
    #
    #   stream.reserve(64) { |frames, times| input.read(frames) }
    #
    # Without a block, returns one such pair or two, in an Array, for #commit.
    def reserve(count)
      pairs = @turn.synchronize { pairs(count) }
      return pairs unless block_given?

      begin
        pairs.each { |frames, times| yield frames, times }
        is_filled = true
      ensure
        pairs.flatten.each { |buffer| buffer&.free } # from here on they refuse
        commit(is_filled ? count : 0)
      end
      count
    end

    # Publishes the first +count+ frames of those that were reserved; the others are given up.
    def commit(count)
      accept(Native::CIRCBUF_COMMIT.call(@address, count))
      nil
    end

    # Publishes what does not change from frame to frame: dimensions, axes, units, attributes; nil removes it.
    # docs/circbuf.md says what the Hash has.
    def metadata=(hash)
      json = JSON.generate(hash) if hash
      accept(Native::CIRCBUF_SET_METADATA.call(@address, json))
      @metadata = hash
    end

    # What there is to know of the stream, an Info.
    def info
      Info.read { |out| accept(Native::CIRCBUF_INFO.call(@address, out)) }
    end

    # Ends the stream and leaves it to its readers and to the next writer. #close removes it.
    def detach
      Shmhot.check(let_go(Native::CIRCBUF_DETACH) || refuse_closed)
      nil
    end

    private

    def take_format
      @memory = Memory.new(writable: true) { |out| Native::CIRCBUF_RING.call(@address, out) }
      @format = @wish.format(@memory.count)
    end

    def known_format
      refuse_closed if closed?
      format or raise Errno::EAGAIN, "the stream has no format yet: configure says it"
    end

    # Yields what C may read, and how many bytes there are.
    def in_memory(frames)
      known_format
      case frames
      when String then yield frames, frames.bytesize
      when IO::Buffer
        # To ask where it is takes as long as to copy so much. Another thread may be writing it, too.
        return yield frames.get_string(0, frames.size), frames.size if frames.size <= COPIED || frames.locked?

        # No other thread frees it meanwhile.
        frames.locked { yield Native.address(frames), frames.size }
      else
        bytes = format.pack(frames)
        yield bytes, bytes.bytesize
      end
    end

    def times(timestamps, count)
      timestamps = timestamps.is_a?(IO::Buffer) ? timestamps.get_string(0, timestamps.size) : Array(timestamps).pack("d*")
      return timestamps if timestamps.bytesize == count * 8

      raise ArgumentError, "#{timestamps.bytesize / 8} timestamps for #{count} frames"
    end

    def pairs(count)
      known_format
      out = [RESERVATION_BYTES].pack("J").ljust(RESERVATION_BYTES, "\0")
      accept(Native::CIRCBUF_RESERVE.call(@address, count, out))
      _, _, index, *counts = out.unpack("JQQQ2")
      @memory.parts(index, counts)
    end
  end
end

require_relative "circ_buff/type"
require_relative "circ_buff/format"
require_relative "circ_buff/info"
require_relative "circ_buff/memory"
