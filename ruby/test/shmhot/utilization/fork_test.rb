# frozen_string_literal: true

require "test_helper"

# A child is another worker than its parent.
class ForkTest < Minitest::Test
  include SegmentHelper

  def test_a_child_does_not_write_its_parent_s_segment
    metric(:requests_total).set(5)
    alone = Metric.new(:alone)
    alone.set(3)
    buffer = observer.buffer
    before = File.binread(path)
    assert_succeeds(process do
      assert_equal [0, 1, true, 7], [metric(:requests_total).value, metric(:requests_total).increment,
                                     metric(:requests_total).set(7), metric(:requests_total).value]
      metric(:load).set(1.5)
      assert_equal [3, nil, nil], [alone.value, observer.buffer, observer.set(:load, 2.5)]
      assert_raises(IO::Buffer::InvalidatedError) { buffer.set_value(:u64, 4, 1) }
      assert_empty reports
    end)
    assert_equal before, File.binread(path)
    assert_equal [6, 6], [metric(:requests_total).increment, seen(:requests_total)]
  end

  def test_a_child_that_opens_a_segment_writes_there
    metric(:requests_total).set(5)
    assert_succeeds(process do
      metric(:requests_active).increment
      @registry.observer = Observer.open(schema, path, SIZE, 1)
      metric(:requests_total).increment
    end)
    assert_equal [5, 1, 1], [seen(:requests_total), seen(:requests_total, at: 1), seen(:requests_active, at: 1)]
  end

  def test_a_child_may_be_asked_to_write_where_its_parent_did
    metric(:requests_total).set(5)
    assert_succeeds(process do
      @registry.observer = Observer.open(schema, path, SIZE, OFFSET)
      metric(:requests_total).set(8)
    end)
    assert_equal 8, seen(:requests_total)
  end

  def test_a_buffer_that_is_given_is_the_caller_s
    buffer = IO::Buffer.new(64)
    observer = Observer.new(schema, buffer)
    assert_succeeds(process { assert_same buffer, observer.buffer })
  end

  def test_a_fork_while_threads_count
    requests = metric(:requests_total)
    stop = false
    threads = Array.new(4) { Thread.new { [0.5, 1, 1 << 63].cycle { |value| stop ? break : requests.set(value) && requests.increment } } }
    20.times do
      assert_succeeds(process do
        requests.set(0.5)
        exit!(1) unless requests.increment == 1.5
      end)
    end
    stop = true
    threads.each(&:join)
    assert_equal requests.value.to_i, seen(:requests_total)
  end

  def test_a_daemon
    program = <<~RUBY
      require "shmhot"
      include Shmhot::Utilization
      observer = Observer.open(Schema.build(requests: :u64), #{path.inspect}, 512, 0)
      metric = Metric.for(:requests, observer)
      metric.set(5)
      Process.daemon(true, true)
      metric.set(9)
      puts metric.value, observer.buffer.inspect
    RUBY
    output, status = Open3.capture2e(RbConfig.ruby, "-I#{RUBY_FOLDER}/lib", "-e", program)
    assert_predicate status, :success?
    assert_equal ["9\nnil\n", 5], [output, File.binread(path, 8).unpack1("Q")]
  end
end
