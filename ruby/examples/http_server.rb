# frozen_string_literal: true

# A keep-alive HTTP/1.1 server on the fast path of Shmhot::HotpathRing: a call of the library for each turn of the loop,
# no copy of what is known beforehand, and one object per request, the String that holds it.
#
#   ruby examples/http_server.rb [-p PORT] [--spin] [--objects]

$LOAD_PATH.unshift File.expand_path("../lib", __dir__)
require "optparse"
require "socket"
require "shmhot"
require_relative "http"

class HttpServer
  Ring = Shmhot::HotpathRing

  # How long a refused client may go on sending, and how long clients may stay when the server ends.
  LINGER_MS = 2000
  DRAIN_MS = 250

  # Stands for the session of a connection that is being closed.
  CLOSED = :closed

  attr_reader :answered

  def initialize(port)
    @listener = TCPServer.new("127.0.0.1", port)
    @listener.listen(4096)
    # What is set on a listener, accepted sockets inherit.
    @listener.setsockopt(Socket::IPPROTO_TCP, Socket::TCP_NODELAY, 1)
    @ring = Ring.new
    Http.each_answer { |answer| answer.wire = @ring.pin(answer.bytes) }
    # Of connections that are in the middle of something, by descriptor.
    @sessions = {}
    @answered = 0
  end

  def port
    @listener.local_address.ip_port
  end

  def run
    @ring.accept(@listener)
    @ring.run do |op, fd, result, buf_id, flags|
      if op == Ring::OP_RECV && result > 0
        bytes = @ring.payload(buf_id, result)
        if (answer = Http::KNOWN[bytes]) && !@sessions.key?(fd)
          @answered += 1
          @ring.write(fd, answer.wire, release: buf_id)
        else
          @ring.release(buf_id)
          converse(fd, bytes)
        end
      else
        happened(op, fd, result, buf_id, flags)
      end
    end
    @ring.close
  end

  # May be called from a signal handler.
  def stop
    @ring.drain(timeout_ms: DRAIN_MS)
    @ring.wake
  end

  private

  # A request that is new, comes in pieces or with others, or has a body.
  def converse(fd, bytes)
    session = @sessions.delete(fd)
    if session == CLOSED || session&.closing?
      @sessions[fd] = session
      return
    end
    fresh = session.nil?
    session ||= Http::Session.new
    answers = []
    session.feed(bytes) { |answer| answers << answer }
    answers.each { |answer| @ring.write(fd, answer.wire) }
    @answered += answers.size
    if session.idle?
      Http.remember(bytes, answers.first) if fresh && answers.one?
    else
      @sessions[fd] = session
      finish(fd, session) if session.closing?
    end
  end

  def finish(fd, session)
    return close(fd) unless session.lingering?

    @ring.half_close(fd)
    @ring.timeout(fd, LINGER_MS)
  end

  def close(fd, timeout_ms: nil)
    return if @sessions[fd] == CLOSED

    @sessions[fd] = CLOSED
    @ring.close_connection(fd, timeout_ms: timeout_ms)
  end

  def happened(op, fd, result, buf_id, flags)
    case op
    when Ring::OP_ACCEPT then @ring.recv(result) if result >= 0
    when Ring::OP_RECV then close(fd) # the end of the stream, or an error
    when Ring::OP_SEND
      @ring.release(buf_id) if buf_id >= 0 # which a refused write leaves to us
      close(fd, timeout_ms: 0) if result.negative? && (flags & Ring::F_ENDED).zero?
    when Ring::OP_CLOSE then @sessions.delete(fd)
    when Ring::OP_TIMEOUT then close(result, timeout_ms: 0) if lingering?(result)
    when Ring::OP_DRAIN then @ring.stop
    end
  end

  def lingering?(fd)
    session = @sessions[fd]
    session.is_a?(Http::Session) && session.lingering?
  end
end

port = 0
spin = objects = false
OptionParser.new do |options|
  options.on("-p PORT", Integer, "port on 127.0.0.1; 0, the default, takes a free one") { |number| port = number }
  options.on("--spin", "a Ruby thread beside the server that computes all the time") { spin = true }
  options.on("--objects", "at the end, tell how many objects were made per request") { objects = true }
end.parse!

server = HttpServer.new(port)
%w[INT TERM].each { |signal| trap(signal) { server.stop } }
Thread.new { loop { Math.sqrt(rand) } } if spin
puts "listening on 127.0.0.1:#{server.port}"
$stdout.flush
before = GC.stat(:total_allocated_objects)
server.run
made = GC.stat(:total_allocated_objects) - before
puts format("%.2f objects per request", made.fdiv([server.answered, 1].max)) if objects
