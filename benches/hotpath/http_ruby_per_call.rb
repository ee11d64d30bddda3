# frozen_string_literal: true

# The HTTP server of ruby/examples/http_server.rb on the same library, driven the way Ruby rings are usually bound: a
# Fiddle call for each operation, which lets go of the interpreter lock, as Fiddle does unless told otherwise;
# completions taken apart field by field into a Hash; received bytes copied out into memory of their own.
#
#   ruby benches/hotpath/http_ruby_per_call.rb [-p PORT] [--spin] [--objects]

$LOAD_PATH.unshift File.expand_path("../../ruby/lib", __dir__)
require "shmhot"
require_relative "ruby_server"

class PerCallRing
  ACCEPT = 1
  RECV = 2
  SEND = 3
  CLOSE = 4
  COMPLETION_BYTES = 24
  BATCH = 64

  POINTER = Fiddle::TYPE_VOIDP
  INT = Fiddle::TYPE_INT

  def self.function(name, *takes, returns: INT)
    Fiddle::Function.new(Shmhot::Native::LIBRARY["hotpath_#{name}"], takes, returns)
  end
  private_class_method :function

  RING_NEW = function("ring_new", -INT, -Fiddle::TYPE_SHORT, -INT, returns: POINTER)
  RING_FREE = function("ring_free", POINTER)
  SUBMIT_ACCEPT = function("submit_accept", POINTER, INT)
  SUBMIT_RECV = function("submit_recv", POINTER, INT)
  SUBMIT_SEND = function("submit_send", POINTER, INT, POINTER, -INT)
  SUBMIT_SHUTDOWN = function("submit_shutdown", POINTER, INT)
  SUBMIT_CLOSE = function("submit_close", POINTER, INT)
  WAIT = function("wait", POINTER, -INT, -INT, POINTER, -INT)
  COPY_BUFFER = function("copy_buffer", POINTER, INT, -INT, POINTER, -INT)
  RELEASE_BUF = function("release_buf", POINTER, INT)

  def initialize
    @ptr = RING_NEW.call(1024, 512, 8192)
    raise Shmhot::Native.last_error if @ptr.null?

    @completions = Fiddle::Pointer.malloc(COMPLETION_BYTES * BATCH, Fiddle::RUBY_FREE)
  end

  def accept(fd) = Shmhot.check(SUBMIT_ACCEPT.call(@ptr, fd))
  def recv(fd) = Shmhot.check(SUBMIT_RECV.call(@ptr, fd))
  def half_close(fd) = SUBMIT_SHUTDOWN.call(@ptr, fd)
  def close_connection(fd) = SUBMIT_CLOSE.call(@ptr, fd)
  def release(buf_id) = Shmhot.check(RELEASE_BUF.call(@ptr, buf_id))
  def free = RING_FREE.call(@ptr)

  # The bytes must stay until the completion. Refused when the peer has gone.
  def send_bytes(fd, bytes)
    iovec = [Fiddle::Pointer[bytes].to_i, bytes.bytesize].pack("JJ")
    SUBMIT_SEND.call(@ptr, fd, iovec, 1)
  end

  def copy_buffer(buf_id, length)
    copy = Fiddle::Pointer.malloc(length, Fiddle::RUBY_FREE)
    copied = Shmhot.check(COPY_BUFFER.call(@ptr, buf_id, length, copy, length))
    copy[0, copied]
  end

  def each_completion(timeout_ms)
    count = Shmhot.check(WAIT.call(@ptr, 1, timeout_ms, @completions, BATCH))
    count.times do |i|
      at = i * COMPLETION_BYTES
      yield({ op_kind: @completions[at, 1].unpack1("C"), fd: @completions[at + 4, 4].unpack1("l"),
              result: @completions[at + 8, 8].unpack1("q"), buf_id: @completions[at + 16, 4].unpack1("l"),
              flags: @completions[at + 20, 4].unpack1("L") })
    end
  end
end

class PerCallServer < BenchServer
  # Stands for the session of a connection that is being closed.
  CLOSED = :closed

  def initialize(port)
    super
    @ring = PerCallRing.new
    @sessions = {}
  end

  def run
    @ring.accept(@listener.fileno)
    @ring.each_completion(100) { |completion| happened(completion) } until @stopping
    @ring.free
  end

  private

  def happened(completion)
    fd = completion[:fd]
    result = completion[:result]
    case completion[:op_kind]
    when PerCallRing::RECV
      return close(fd) unless result.positive?

      bytes = @ring.copy_buffer(completion[:buf_id], result)
      @ring.release(completion[:buf_id])
      received(fd, bytes)
    when PerCallRing::SEND then close(fd) if result.negative?
    when PerCallRing::ACCEPT then @ring.recv(result) if result >= 0
    when PerCallRing::CLOSE then @sessions.delete(fd)
    end
  end

  def received(fd, bytes)
    session = @sessions[fd]
    if session.nil? && (answer = Http::KNOWN[bytes])
      @answered += 1
      return answer_with(fd, answer)
    end
    return if session == CLOSED || session&.closing?

    session, answers = converse(session, bytes)
    @sessions[fd] = session
    answers.each { |answer| answer_with(fd, answer) }
    return if @sessions[fd] == CLOSED

    if session.closing?
      session.lingering? ? @ring.half_close(fd) : close(fd)
    elsif session.idle?
      @sessions.delete(fd)
    end
  end

  def answer_with(fd, answer)
    close(fd) if @ring.send_bytes(fd, answer.bytes).negative?
  end

  def close(fd)
    return if @sessions[fd] == CLOSED

    @sessions[fd] = CLOSED
    @ring.close_connection(fd)
  end
end

BenchServer.main(PerCallServer)
