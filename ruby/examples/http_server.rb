# frozen_string_literal: true

# A keep-alive HTTP/1.1 server on the fast path of Shmhot::HotpathRing: a call of the library for each turn of the loop,
# no copy of what is known beforehand, and one object per request, the String that holds it.
#
# With --metrics it tells anybody how busy it is, in a segment of a store, which is made if it is not there.
#
#   ruby examples/http_server.rb [-p PORT] [-m STORE] [--spin] [--objects]

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

  FIELDS = Shmhot::Utilization::Schema.aligned(
    connections_active: { type: :u64, kind: :gauge, help: "Connections that are open." },
    connections_total: { type: :u64, kind: :counter, help: "Connections that were accepted." },
    requests_active: { type: :u64, kind: :gauge, help: "Requests that have arrived in part." },
    requests_total: { type: :u64, kind: :counter, help: "Requests that were answered." },
    sent_bytes_total: { type: :u64, kind: :counter, help: "Bytes of answers.", unit: "bytes" }
  )

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
    @answered = @sent = @opened = @closed = 0
    @ended = false
  end

  def port
    @listener.local_address.ip_port
  end

  # From now on its numbers are there.
  def publish_to(observer)
    registry = Shmhot::Utilization::Registry.new
    registry.observer = observer
    @metrics = FIELDS.fields.to_h { |field| [field.name, registry.metric(field.name)] }
  end

  def run
    @ring.accept(@listener)
    until @ended
      turn
      publish if @metrics
    end
    @ring.close
  end

  # May be called from a signal handler.
  def stop
    @ring.wake
  end

  private

  def turn
    @ring.turn do |op, fd, result, buf_id, flags|
      if op == Ring::OP_RECV && result > 0
        bytes = @ring.payload(buf_id, result)
        if (answer = Http::KNOWN[bytes]) && !@sessions.key?(fd)
          @answered += 1
          @sent += answer.bytes.bytesize
          @ring.write(fd, answer.wire, release: buf_id)
        else
          @ring.release(buf_id)
          converse(fd, bytes)
        end
      else
        happened(op, fd, result, buf_id, flags)
      end
    end
  end

  def publish
    @metrics[:connections_active].set(@opened - @closed)
    @metrics[:connections_total].set(@opened)
    @metrics[:requests_active].set(@sessions.count { |_, session| session != CLOSED && !session.closing? })
    @metrics[:requests_total].set(@answered)
    @metrics[:sent_bytes_total].set(@sent)
  end

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
    answers.each do |answer|
      @ring.write(fd, answer.wire)
      @sent += answer.bytes.bytesize
    end
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
    when Ring::OP_ACCEPT then accepted(result) if result >= 0
    when Ring::OP_RECV then close(fd) # the end of the stream, or an error
    when Ring::OP_SEND
      @ring.release(buf_id) if buf_id >= 0 # which a refused write leaves to us
      close(fd, timeout_ms: 0) if result.negative? && (flags & Ring::F_ENDED).zero?
    when Ring::OP_CLOSE then closed(fd)
    when Ring::OP_TIMEOUT then close(result, timeout_ms: 0) if lingering?(result)
    when Ring::OP_WAKE then @ring.drain(timeout_ms: DRAIN_MS)
    when Ring::OP_DRAIN then @ended = true
    end
  end

  def accepted(fd)
    @opened += 1
    @ring.recv(fd)
  end

  def closed(fd)
    @closed += 1
    @sessions.delete(fd)
  end

  def lingering?(fd)
    session = @sessions[fd]
    session.is_a?(Http::Session) && session.lingering?
  end
end

# The store of a path, with those who were killed cleared away.
def store_of(path)
  store = File.exist?(path) ? Shmhot::Utilization::SegmentStore.attach(path) : Shmhot::Utilization::SegmentStore.open(path)
  store.reap
  store
end

port = 0
spin = objects = false
metrics = nil
OptionParser.new do |options|
  options.on("-p PORT", Integer, "port on 127.0.0.1; 0, the default, takes a free one") { |number| port = number }
  options.on("-m", "--metrics STORE", "where to publish how busy it is") { |path| metrics = path }
  options.on("--spin", "a Ruby thread beside the server that computes all the time") { spin = true }
  options.on("--objects", "at the end, tell how many objects were made per request") { objects = true }
end.parse!

server = HttpServer.new(port)
observer = store_of(metrics).observer(HttpServer::FIELDS, service: "http_server") if metrics
server.publish_to(observer) if observer
%w[INT TERM].each { |signal| trap(signal) { server.stop } }
Thread.new { loop { Math.sqrt(rand) } } if spin
puts "listening on 127.0.0.1:#{server.port}"
$stdout.flush
before = GC.stat(:total_allocated_objects)
server.run
observer&.close
made = GC.stat(:total_allocated_objects) - before
puts format("%.2f objects per request", made.fdiv([server.answered, 1].max)) if objects
