# frozen_string_literal: true

require "test_helper"

# Waits, and what ends them.
class WaitingTest < Minitest::Test
  include PageHelper
  include WaitHelper

  # Waits that nothing ends.
  def endless
    writer.write(live_page)
    future = clock.now.time_ns + (3600 * SECOND)
    { wait: -> { clock.wait(clock.snapshot.seq_count) }, wait_until_past: -> { clock.wait_until_past(future) } }
  end

  def test_an_update_by_another_process_ends_a_wait
    writer.close
    last = clock.snapshot.seq_count
    pid = process do
      sleep 0.1
      Clock::Writer.create(path) { |other| other.write(page(flags: 77)) }
    end
    assert clock.wait(last, timeout: 20)
    assert_equal 77, clock.snapshot.flags
    refute_equal last, clock.snapshot.seq_count
    assert_succeeds pid
  end

  def test_a_page_that_is_another_already
    writer.write(page)
    assert clock.wait(clock.snapshot.seq_count - 2)
    assert clock.wait(clock.snapshot.seq_count - 2, timeout: 0)
    refute clock.wait(clock.snapshot.seq_count, timeout: 0)
    assert_raises(RangeError) { clock.wait(1 << 32) }
  end

  def test_a_wait_ends_when_the_time_is_over
    writer.write(live_page)
    waits = { wait: -> { clock.wait(clock.snapshot.seq_count, timeout: 0.05) },
              wait_until_past: -> { clock.wait_until_past(clock.now.time_ns + SECOND * 60, timeout: 0.05) } }
    waits.each do |name, wait|
      took = elapsed { refute wait.call, name }
      assert_operator took, :>=, 0.05, name
      assert_operator took, :<, 2, name
    end
  end

  def test_until_a_time_is_certainly_over
    writer.write(live_page(maxerror_ns: 20_000_000))
    [0, 1_000, 30_000_000].each do |ahead|
      time_ns = clock.now.latest_ns + ahead
      assert clock.wait_until_past(time_ns, timeout: 20)
      assert_operator clock.now.earliest_ns, :>, time_ns
    end
    past = clock.now.earliest_ns - 1
    assert clock.wait_until_past(past)
    assert clock.wait_until_past(past, timeout: 0)
    refute clock.wait_until_past(clock.now.latest_ns + SECOND, timeout: 0)
    assert_raises(RangeError) { clock.wait_until_past(1 << 63) }
  end

  # The bound of the new page ends the wait an hour before that of the old one would have.
  def test_a_better_page_ends_the_wait_sooner
    writer.write(live_page(maxerror_ns: 3600 * SECOND))
    time_ns = clock.now.time_ns
    thread = asleep { clock.wait_until_past(time_ns, timeout: 60) }
    writer.write(live_page)
    took = elapsed { assert thread.value }
    assert_operator took, :<, 5
  end

  def test_a_page_without_a_bound_or_a_time_ends_the_wait
    writer.write(live_page.with(flags: 0))
    assert_match(/bounds no error/, assert_raises(Errno::ENODATA) { clock.wait_until_past(0) }.message)
    endless => { wait_until_past: }
    thread = asleep(&wait_until_past)
    writer.write(page(clock_status: STATUS_UNRELIABLE))
    assert_match(/unreliable/, assert_raises(Errno::ENODATA) { Timeout.timeout(10) { thread.value } }.message)
  end

  def test_thread_kill_ends_a_wait_at_once
    endless.each do |name, wait|
      thread = asleep(&wait)
      took = elapsed { assert thread.kill.join(10), name }
      assert_operator took, :<, 1, name
    end
  end

  def test_timeout_ends_a_wait_at_once
    endless.each do |name, wait|
      took = elapsed { assert_raises(Timeout::Error, name.to_s) { Timeout.timeout(0.05) { wait.call } } }
      assert_operator took, :<, 1, name
    end
    assert_operator clock.now.time_ns, :>, 0
  end

  def test_a_signal_ends_a_wait_at_once
    endless.each do |name, wait|
      sender = Thread.new do
        sleep 0.05
        Process.kill(:INT, Process.pid)
      end
      took = elapsed { assert_raises(Interrupt, name.to_s) { Timeout.timeout(10) { wait.call } } }
      sender.join
      assert_operator took, :<, 1, name
    end
  end

  def test_handled_signals_do_not_end_a_wait
    count = 0
    before = trap(:USR1) { count += 1 if clock.snapshot }
    writer.write(live_page)
    sender = Thread.new do
      10.times do
        Process.kill(:USR1, Process.pid)
        sleep 0.005
      end
    end
    took = elapsed { refute clock.wait(clock.snapshot.seq_count, timeout: 0.1) }
    assert_operator took, :>=, 0.1
    sender.join
    assert_operator count, :>, 0
  ensure
    trap(:USR1, before)
  end

  def test_close_ends_the_waits_of_other_threads
    endless.each_value do |wait|
      thread = asleep(&wait)
      clock.close
      assert_raises(Shmhot::ClosedError) { Timeout.timeout(10) { thread.value } }
      @clock = nil
    end
  end

  def test_other_threads_run_meanwhile
    waits = endless.values.map { |wait| asleep(&wait) }
    took = elapsed { 100.times { Thread.new { clock.snapshot }.join } }
    assert_operator took, :<, 5
    assert waits.all?(&:alive?)
  ensure
    waits.each(&:kill).each(&:join)
  end

  def test_under_a_fiber_scheduler
    last = writer.then { clock.snapshot.seq_count }
    events = []
    Thread.new do
      Fiber.set_scheduler(Scheduler.new)
      Fiber.schedule { events << clock.wait(last, timeout: 20) << :waiter }
      Fiber.schedule do
        events << :writer
        writer.write(page)
      end
    end.join
    assert_equal [:writer, true, :waiter], events
  end
end
