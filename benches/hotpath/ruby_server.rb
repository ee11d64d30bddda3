# frozen_string_literal: true

# What the yardsticks in Ruby share, beside the HTTP work: options, a listener, an end.

require "optparse"
require "socket"
require_relative "../../ruby/examples/http"

class BenchServer
  attr_reader :answered

  def initialize(port)
    @listener = TCPServer.new("127.0.0.1", port)
    @listener.listen(4096)
    @listener.setsockopt(Socket::IPPROTO_TCP, Socket::TCP_NODELAY, 1)
    @answered = 0
    @stopping = false
  end

  def port
    @listener.local_address.ip_port
  end

  def stop
    @stopping = true
  end

  # Feeds a session, a new one if there is none; gives it and the answers that are due.
  def converse(session, bytes)
    fresh = session.nil?
    session ||= Http::Session.new
    answers = []
    session.feed(bytes) { |answer| answers << answer }
    @answered += answers.size
    Http.remember(bytes, answers.first) if fresh && answers.one? && session.idle?
    [session, answers]
  end

  def self.main(server_class)
    port = 0
    spin = objects = false
    OptionParser.new do |options|
      options.on("-p PORT", Integer) { |number| port = number }
      options.on("--spin") { spin = true }
      options.on("--objects") { objects = true }
    end.parse!
    server = server_class.new(port)
    %w[INT TERM].each { |signal| trap(signal) { server.stop } }
    Thread.new { loop { Math.sqrt(rand) } } if spin
    puts "listening on 127.0.0.1:#{server.port}"
    $stdout.flush
    before = GC.stat(:total_allocated_objects)
    server.run
    made = GC.stat(:total_allocated_objects) - before
    puts format("%.2f objects per request", made.fdiv([server.answered, 1].max)) if objects
  end
end
