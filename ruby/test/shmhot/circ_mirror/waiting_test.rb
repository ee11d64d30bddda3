# frozen_string_literal: true

require "test_helper"

# Waits, and what ends them.
class CircMirrorWaitingTest < Minitest::Test
  include StreamHelper
  include WaitHelper

  def test_frames_of_another_process_end_a_wait
    pid = writer do |stream|
      sleep 0.1
      stream.write(frames(0..2))
      sleep
    end
    assert_equal 3, mirror.wait(timeout: 20)
    assert_equal frames(0..2), read.first
    kill(pid)
  end

  def test_frames_that_are_there
    stream.write(frames(0..1))
    assert_equal 2, mirror.wait
    assert_equal 2, mirror.wait(2, timeout: 0)
    assert_nil mirror.wait(3, timeout: 0)
    read
    assert_nil mirror.wait(timeout: 0)
  end

  def test_for_many_frames
    stream
    thread = asleep { mirror.wait(5) }
    stream.write(frames(0..3))
    assert_nil thread.join(0.05)
    stream.write(frames([4]))
    assert_equal 5, thread.join(20).value
    # More than the ring holds do not come.
    stream.write(frames(0..24))
    assert_equal 10, mirror.wait(1000, timeout: 20)
  end

  def test_a_wait_ends_when_the_time_is_over
    took = elapsed { assert_nil mirror.wait(timeout: 0.05) }
    assert_operator took, :>=, 0.05
    stream
    took = elapsed { assert_nil mirror.wait(timeout: 0.05) }
    assert_operator took, :>=, 0.05
    assert_operator elapsed { assert_same mirror, mirror.each(timeout: 0.05) { flunk } }, :<, 10
  end

  def test_a_stream_that_is_not_there_yet
    thread = asleep { mirror.wait }
    stream.write(frames([1]))
    assert_equal 1, thread.join(20).value
  end

  def test_a_new_format_does_not_end_a_wait
    stream.write(frames([1]))
    read
    thread = asleep { mirror.wait }
    stream.configure(shape: 2)
    assert_nil thread.join(0.05)
    stream.write([1, 2])
    assert_equal 1, thread.join(20).value
  end

  def test_an_end_is_told_once
    stream.write(frames([1]))
    read
    thread = asleep { mirror.wait }
    stream.close
    assert_nil thread.join(20).value
    assert_predicate mirror, :ended?
    took = elapsed { assert_nil mirror.wait(timeout: 0.1) }
    assert_operator took, :>=, 0.1
  end

  def test_a_death_is_told_once_and_the_next_writer_is_followed
    3.times do |round|
      pid = writer do |stream|
        stream.write(frames([round]))
        sleep
      end
      assert_equal 1, mirror.wait(timeout: 20)
      numbers, _, span = read
      assert_equal [frames([round]), round, 0], [numbers, span.first, span.lost]
      thread = asleep { mirror.wait }
      kill(pid)
      assert thread.join(20)
      assert_nil thread.value
      assert_predicate mirror, :dead?
      assert_nil mirror.wait(timeout: 0.05)
    end
  end

  def test_each_ends_with_the_writer
    pid = writer do |stream|
      20.times do |number|
        stream.write(frames([number]))
        sleep 0.005
      end
    end
    seen = []
    assert_same(mirror, mirror.each { |copied, times, span| seen.concat(span.format.unpack(copied).zip(times)) })
    assert_equal frames(0..19), seen.map(&:first)
    assert_equal :ended, mirror.state
    assert_succeeds pid
    stream.write(frames([20]))
    assert_equal [frames([20])], mirror.lazy.map { |copied, _, span| span.format.unpack(copied) }.first(1)
    stream.write(frames([21]))
    assert_equal [frames([21])], mirror.each(timeout: 0).map { |copied, _, span| span.format.unpack(copied) }
  end

  def test_thread_kill_ends_a_wait
    [-> { mirror.wait }, -> { mirror.each { flunk } }].each do |wait|
      stream
      thread = asleep(&wait)
      took = elapsed { assert thread.kill.join(10) }
      assert_operator took, :<, 1
    end
  end

  def test_timeout_ends_a_wait
    stream
    took = elapsed { assert_raises(Timeout::Error) { Timeout.timeout(0.05) { mirror.wait } } }
    assert_operator took, :<, 1
  end

  def test_a_signal_ends_a_wait
    stream
    sender = Thread.new do
      sleep 0.05
      Process.kill(:INT, Process.pid)
    end
    took = elapsed { assert_raises(Interrupt) { Timeout.timeout(10) { mirror.wait } } }
    sender.join
    assert_operator took, :<, 1
  end

  def test_handled_signals_do_not_end_a_wait
    count = 0
    before = trap(:USR1) { count += 1 }
    stream
    sender = Thread.new do
      10.times do
        Process.kill(:USR1, Process.pid)
        sleep 0.005
      end
    end
    took = elapsed { assert_nil mirror.wait(timeout: 0.1) }
    assert_operator took, :>=, 0.1
    sender.join
    assert_operator count, :>, 0
  ensure
    trap(:USR1, before)
  end

  def test_close_ends_the_waits_of_other_threads
    stream
    threads = 3.times.map { asleep { mirror.wait } }
    mirror.close
    threads.each { |thread| assert_raises(Shmhot::ClosedError) { Timeout.timeout(10) { thread.value } } }
  end

  def test_a_signal_handler_closes_what_its_thread_waits_for
    stream
    before = trap(:USR1) { mirror.close }
    mirror
    sender = Thread.new do
      sleep 0.05
      Process.kill(:USR1, Process.pid)
    end
    assert_raises(Shmhot::ClosedError) { Timeout.timeout(10) { mirror.wait } }
    sender.join
  ensure
    trap(:USR1, before)
  end

  # The child has no thread that waits, and so none to wait for.
  def test_a_forked_child_closes_what_a_thread_waits_for
    stream
    thread = asleep { mirror.wait }
    assert_succeeds(process { mirror.close })
    stream.write(frames([1]))
    assert_equal 1, thread.join(20).value
  end

  def test_other_threads_run_meanwhile
    stream
    waits = 3.times.map { asleep { mirror.wait } }
    took = elapsed { 100.times { Thread.new { mirror.info }.join } }
    assert_operator took, :<, 5
    assert waits.all?(&:alive?)
  ensure
    waits.each(&:kill).each(&:join)
  end

  def test_under_a_fiber_scheduler
    stream
    events = []
    Thread.new do
      Fiber.set_scheduler(Scheduler.new)
      Fiber.schedule { events << mirror.wait(timeout: 20) << :reader }
      Fiber.schedule do
        events << :writer
        stream.write(frames([1]))
      end
    end.join
    assert_equal [:writer, 1, :reader], events
  end
end
