# frozen_string_literal: true

module Shmhot
  class CircBuff
    # circbuf_info_t: its fields, and how they are packed.
    INFO = {
      size: "J", begin: "Q", oldest: "Q", written: "Q", position: "Q", lost: "Q", last_write_ns: "q", state: "L",
      layout: "L", pid: "L", generation: "L", metadata_generation: "L", is_ours: "L"
    }.freeze
    INFO_FORMAT = INFO.values.join.freeze
    INFO_BYTES = 80
    STATES = %i[absent unconfigured alive dead ended unknown].freeze
    NO_GENERATION = 0xffff_ffff
    private_constant :INFO, :INFO_FORMAT, :INFO_BYTES, :STATES, :NO_GENERATION

    # What there is to know of a stream: a frozen Struct.
    #
    # begin:: number of the ring's first frame
    # oldest:: number of the oldest that is still there
    # written:: number that the next will have
    # position:: number of the frame that this mirror reads next
    # lost:: how many this mirror has lost, in all
    # last_write:: when frames were last written, some milliseconds early, a Time; nil when that is not known
    # state:: :absent; :unconfigured, without a format yet; :alive; :dead; :ended, in order; or :unknown, when it is
    #         another library's, which does not tell
    # layout:: 2, 1 or 0; nil when the stream is absent
    # pid:: of the writer; nil when it is another library's
    # generation:: of the ring; nil when there is none
    # metadata_generation:: of the static metadata; nil when there is none
    # ours:: whether the writer is this library's
    class Info < Struct.new(:begin, :oldest, :written, :position, :lost, :last_write, :state, :layout, :pid, :generation,
                            :metadata_generation, :ours)
      class << self
        # The one that the block's call puts into +out+.
        def read
          out = [INFO_BYTES].pack("J").ljust(INFO_BYTES, "\0")
          yield out
          fields = INFO.keys.zip(out.unpack(INFO_FORMAT)).to_h
          since, state = fields.values_at(:last_write_ns, :state)
          new(*fields.values_at(:begin, :oldest, :written, :position, :lost),
              (Time.at(0, since, :nsec) unless since.zero?), STATES[state], (fields[:layout] unless state.zero?),
              known(fields[:pid]), known(fields[:generation], NO_GENERATION), known(fields[:metadata_generation]),
              fields[:is_ours] == 1).freeze
        end

        private

        def known(value, unknown = 0)
          value unless value == unknown
        end
      end

      def ours?
        ours
      end
    end
  end
end
