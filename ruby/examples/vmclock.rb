# frozen_string_literal: true

# Prints the time of a clock page, and how sure it is, once a second. Where no hypervisor provides a page, the second
# form makes one from the host's own clock and keeps it up to date.
#
#   ruby examples/vmclock.rb [-n COUNT] [PATH]
#   ruby examples/vmclock.rb --serve PATH

$LOAD_PATH.unshift File.expand_path("../lib", __dir__)
require "optparse"
require "shmhot"

def print_times(path, count)
  Shmhot::VMClock.open(path) do |clock|
    marker = nil
    1.upto(count) do |line|
      time = clock.now
      puts "-- the clock was disrupted" unless [nil, time.disruption_marker].include?(marker)
      marker = time.disruption_marker
      puts "#{date(time)}  #{bound(time)}  #{time.status}"
      sleep 1 unless line == count
    end
  end
end

# A Time has no second 60.
def date(time)
  time.utc ? time.utc.strftime("%F %H:%M:#{time.leap_second? ? 60 : "%S"}.%N") : "#{time.time_ns} ns"
end

def bound(time)
  time.maxerror_ns ? format("+-%.6f ms", time.maxerror_ns / 1e6) : "unbounded"
end

def serve(path)
  calibrator = Shmhot::VMClock::Calibrator.new
  Shmhot::VMClock::Writer.create(path) do |writer|
    writer.write(calibrator.measure.page)
    puts "serving #{path}"
    loop do
      sleep 1
      writer.write(calibrator.measure.page)
    rescue Errno::EAGAIN # the machine was too busy to measure well: the last page holds on
    end
  ensure
    writer.remove
  end
end

count = Float::INFINITY
served = nil
options = OptionParser.new("usage: ruby examples/vmclock.rb [-n COUNT] [PATH] | --serve PATH") do |on|
  on.on("-n COUNT", Integer, "stop after so many lines") { |number| count = number }
  on.on("--serve PATH", "make a page and keep it up to date until stopped") { |path| served = path }
end

$stdout.sync = true
begin
  path, = options.parse!
  served ? serve(served) : print_times(path, count)
rescue SystemCallError, Shmhot::Error, OptionParser::ParseError => e
  abort "vmclock: #{e.message}"
rescue SignalException
  exit
end
