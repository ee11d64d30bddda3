# frozen_string_literal: true

require "test_helper"

class CalibratorTest < Minitest::Test
  include PageHelper

  def calibrator
    @calibrator ||= kept(Clock::Calibrator.new)
  end

  def test_the_page_tells_the_time_of_the_kernel
    measured = calibrator.measure
    assert_predicate measured, :frozen?
    assert_includes %i[synchronized freerunning], measured.page.status
    writer.write(measured.page)
    # The kernel's own error is in the bound, but not between its clock and ours.
    allowed = measured.bracket_ns + 10_000
    100.times do
      before = Process.clock_gettime(Process::CLOCK_REALTIME, :nanosecond)
      time = clock.now
      after = Process.clock_gettime(Process::CLOCK_REALTIME, :nanosecond)
      assert_operator time.utc_ns, :>=, before - allowed
      assert_operator time.utc_ns, :<=, after + allowed
      assert_operator time.maxerror_ns, :>=, measured.bracket_ns / 2
    end
  end

  def test_only_the_first_measurement_takes_time
    calibrator.measure
    assert_operator elapsed { 10.times { calibrator.measure } }, :<, 1
  end

  def test_other_threads_run_meanwhile
    thread = Thread.new { calibrator.measure }
    turns = 0
    until thread.join(0)
      turns += 1
      sleep 0.001
    end
    assert_operator turns, :>, 10
  end

  def test_close_waits_for_a_measurement
    5.times do
      shared = Clock::Calibrator.new
      threads = Array.new(2) { Thread.new { shared.measure.page.version } }
      sleep rand * 0.01
      shared.close
      threads.each do |thread|
        assert_equal 1, thread.value
      rescue Shmhot::ClosedError => e
        assert_equal "Bad file descriptor - this Calibrator is closed", e.message
      end
    end
  end

  def test_a_closed_calibrator_refuses
    calibrator.close
    assert_nil calibrator.close
    assert_raises(Shmhot::ClosedError) { calibrator.measure }
  end
end
