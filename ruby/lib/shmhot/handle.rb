# frozen_string_literal: true

module Shmhot
  # What the objects have in common that stand for a C handle, and give it back when closed or collected.
  #
  # Any thread may close one at any time. That is safe because calls keep the interpreter lock, and because @address is
  # read when nothing but the call is left to do; it is 0 from then on, which the library refuses.
  class Handle
    class << self
      # As +new+. With a block, yields the object, closes it in the end, and returns what the block did.
      def open(*arguments, **options, &block)
        lend(new(*arguments, **options), &block)
      end

      # What #open does with an object.
      def lend(handle)
        return handle unless block_given?

        begin
          yield handle
        ensure
          handle.close
        end
      end

      # It must not hold the object itself.
      def finalizer(free, address)
        proc { free.call(address) }
      end
      private :lend, :finalizer
    end

    def close
      let_go
      nil
    end

    def closed?
      @address.zero?
    end

    def inspect
      "#<#{self.class}#{" closed" if closed?}>"
    end

    private

    # Takes the handle that the block's call puts into +out+, and +free+ takes back.
    def hold(free)
      Thread.handle_interrupt(Object => :never) do
        out = [0].pack("J")
        Shmhot.check(yield(out))
        @free = free
        @address = out.unpack1("J")
        ObjectSpace.define_finalizer(self, Handle.send(:finalizer, free, @address))
      end
    end

    # Gives the handle back, once. Returns the status, nil when another was first.
    def let_go(free = @free)
      Thread.handle_interrupt(Object => :never) do
        address, @address = @address, 0
        next if address.zero?

        ObjectSpace.undefine_finalizer(self)
        free.call(address)
      end
    end

    # Returns a status that is a success, raises one that is not.
    def accept(status)
      return status unless status.negative?

      refuse_closed if closed?
      raise Shmhot.error_for(status)
    end

    def refuse_closed
      raise ClosedError, "this #{self.class.name[/\w+\z/]} is closed"
    end
  end
  private_constant :Handle
end
