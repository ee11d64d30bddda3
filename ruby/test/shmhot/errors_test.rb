# frozen_string_literal: true

require "test_helper"

class ErrorsTest < Minitest::Test
  include RingHelper

  def test_an_errno_becomes_the_error_of_that_number_with_the_library_s_sentence
    error = assert_raises(Errno::EBADF) { ring.submit_recv_multishot(999_999) }
    assert_equal "Bad file descriptor - 999999 is no descriptor", error.message
  end

  def test_the_library_s_own_statuses_have_classes
    ring.force_unhealthy!
    error = assert_raises(Shmhot::UnhealthyError) { ring.submit_recv_multishot(0) }
    assert_match(/make a new one/, error.message)
    assert_kind_of SystemCallError, error
    assert_kind_of Shmhot::Error, error
  end

  def test_check_passes_successes_on
    assert_equal 5, Shmhot.check(5)
  end

  def test_bad_sizes_say_which_and_why
    { { n_bufs: 3 } => /n_bufs is 3, and must be a power of two/,
      { n_bufs: 0 } => /n_bufs is 0/,
      { n_bufs: 65_536 + 512 } => /n_bufs is 66048/,
      { queue_depth: 0 } => /queue_depth is 0/,
      { queue_depth: 1 << 40 } => /queue_depth is 1099511627776/,
      { buf_size: -1 } => /buf_size is -1/,
      { n_bufs: 32_768, buf_size: 1 << 30 } => /memory/i }.each do |options, sentence|
      error = assert_raises(Shmhot::Unsupported, options.inspect) { Ring.new(**options) }
      assert_match sentence, error.message
    end
  end
end
