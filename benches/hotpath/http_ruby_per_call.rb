# frozen_string_literal: true

# The HTTP server of ruby/examples/http_server.rb, written the way the peer's class is used: a call of the library for
# each operation, a Hash for each completion, a String copied out of each buffer.
#
#   ruby benches/hotpath/http_ruby_per_call.rb [-p PORT] [--spin] [--objects]

$LOAD_PATH.unshift File.expand_path("../../ruby/lib", __dir__)
require_relative "ruby_server"
require "shmhot"

class PerCallServer < BenchServer
  Ring = Shmhot::HotpathRing

  # Stands for the session of a connection that is being closed.
  CLOSED = :closed

  def initialize(port)
    super
    @ring = Ring.new
    @sessions = {}
  end

  def run
    @ring.submit_accept_multishot(@listener.fileno)
    @ring.each_completion(timeout_ms: 100) { |completion| happened(completion) } until @stopping
    @ring.close
  end

  private

  def send_answer(fd, answer)
    bytes = answer.bytes
    @ring.submit_send(fd, [Fiddle::Pointer[bytes].to_i, bytes.bytesize].pack("JJ"), 1)
  end

  def happened(completion)
    fd = completion[:fd]
    result = completion[:result]
    case completion[:op_kind]
    when Ring::OP_RECV
      return close(fd) unless result.positive?

      bytes = @ring.copy_buffer(completion[:buf_id], result)
      @ring.release_buffer(completion[:buf_id])
      received(fd, bytes)
    when Ring::OP_SEND then close(fd) if result.negative?
    when Ring::OP_ACCEPT then @ring.submit_recv_multishot(result) if result >= 0
    when Ring::OP_CLOSE then @sessions.delete(fd)
    end
  end

  def received(fd, bytes)
    session = @sessions[fd]
    if session.nil? && (answer = Http::KNOWN[bytes])
      @answered += 1
      return send_answer(fd, answer)
    end
    return if session == CLOSED || session&.closing?

    session, answers = converse(session, bytes)
    answers.each { |answer| send_answer(fd, answer) }
    @sessions[fd] = session
    @sessions.delete(fd) if session.idle?
    session.lingering? ? @ring.half_close(fd) : close(fd) if session.closing?
  end

  def close(fd)
    return if @sessions[fd] == CLOSED

    @sessions[fd] = CLOSED
    @ring.close_connection(fd)
  end
end

BenchServer.main(PerCallServer)
