# frozen_string_literal: true

# Shows a stream once a second: how many frames came, how many were lost, and the mean of each channel. The second form
# makes one, of sine waves. c-examples/signal_source.c makes one of what this machine does.
#
#   ruby examples/meter.rb [-n COUNT] NAME
#   ruby examples/meter.rb --serve NAME

$LOAD_PATH.unshift File.expand_path("../lib", __dir__)
require "optparse"
require "shmhot"

INTERVAL = 1.0

# What came in an interval.
class Meter
  def initialize
    @count = @lost = 0
    @sums = []
  end

  def add(frames, span)
    sums = span.format.unpack(frames).map { |frame| [frame].flatten }.transpose.map(&:sum)
    @count, @sums = 0, sums.map { 0 } unless @sums.size == sums.size # another format
    @count += span.count
    @lost += span.lost
    @sums = @sums.zip(sums).map(&:sum)
  end

  def line(metadata)
    names = names(metadata)
    means = @sums.each_with_index.map { |sum, i| format("%s %.3f", names[i] || i, sum / @count) }
    ["#{@count} frames", "#{@lost} lost", *means].join("  ")
  end

  private

  # Channels are named by the coordinates of an axis that is not that of time.
  def names(metadata)
    axes = metadata&.fetch("axes") || {}
    _, axis = axes.find { |name, axis| name != metadata["buffered_axis"] && axis["kind"] == "coord" }
    axis ? axis["data"] : []
  end
end

def show(name, count)
  Shmhot::CircMirror.open(name, from_now: true) do |mirror|
    puts "waiting for #{name}" unless mirror.alive? || mirror.state == :unknown
    1.upto(count) do
      mirror.wait or abort "meter: the writer of #{name} has #{mirror.dead? ? "died" : "ended"}"
      meter = Meter.new
      ends = now + INTERVAL
      # Every frame is there to be read until the ring is full: reading all ten times a second is often enough.
      while (left = ends - now).positive?
        sleep [left, INTERVAL / 10].min
        frames, _, span = mirror.read
        meter.add(frames, span) if span
      end
      puts meter.line(mirror.metadata)
    end
  end
end

def serve(name, rate: 1000, periods: [1, 5, 25])
  Shmhot::CircBuff.open(name, dtype: :f32, shape: periods.size, rate: rate, seconds: 10, start: now) do |stream|
    stream.metadata = {
      dims: %w[time ch], buffered_axis: "time", stream_dim: "time",
      axes: { time: { kind: "linear", unit: "s", gain: 1.0 / rate },
              ch: { kind: "coord", data: periods.map { |period| "#{period} s" } } }
    }
    puts "serving #{name}"
    written = 0
    began = now
    loop do
      sleep 0.01
      due = ((now - began) * rate).floor
      stream.write((written...due).map { |i| periods.map { |period| Math.sin(2 * Math::PI * i / rate / period) } })
      written = due
    end
  end
end

def now
  Process.clock_gettime(Process::CLOCK_MONOTONIC)
end

count = Float::INFINITY
serves = false
options = OptionParser.new("usage: ruby examples/meter.rb [-n COUNT] NAME | --serve NAME") do |on|
  on.on("-n COUNT", Integer, "stop after so many lines") { |number| count = number }
  on.on("--serve", "make a stream until stopped") { serves = true }
end

$stdout.sync = true
begin
  name, = options.parse!
  abort options.banner unless name
  serves ? serve(name) : show(name, count)
rescue SystemCallError, Shmhot::Error, OptionParser::ParseError => e
  abort "meter: #{e.message}"
rescue SignalException
  exit
end
