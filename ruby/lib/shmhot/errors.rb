# frozen_string_literal: true

# How the library's statuses become exceptions: -errno becomes the SystemCallError of that number (Errno::EBADF, ...),
# the library's own become the classes below. The message is the library's sentence about what went wrong.
module Shmhot
  # All exceptions of this library but the plain SystemCallErrors.
  module Error; end

  # The host cannot give what was asked for.
  class Unsupported < StandardError
    include Error
  end

  # It belongs to another thread.
  class WrongThreadError < ThreadError
    include Error
  end

  # It was made before a fork, and this is the child.
  class ForkError < StandardError
    include Error
  end

  # It has been given up.
  class UnhealthyError < Errno::EIO
    include Error
  end

  # It has been closed.
  class ClosedError < Errno::EBADF
    include Error
  end

  # A bug in the library, caught.
  class PanicError < StandardError
    include Error
  end

  class << self
    # Returns a status that is a success, raises one that is not.
    def check(status)
      raise error_for(status) if status.negative?

      status
    end

    # The exception for the negative status of the call that this thread made last.
    def error_for(status)
      sentence = Native.last_error
      case status
      when Native::EPANIC then PanicError.new(sentence)
      when Native::ETHREAD then WrongThreadError.new(sentence)
      when Native::EFORK then ForkError.new(sentence)
      when Native::EUNHEALTHY then UnhealthyError.new(sentence)
      else SystemCallError.new(sentence, -status)
      end
    end
  end
end
