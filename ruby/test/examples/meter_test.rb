# frozen_string_literal: true

require "test_helper"

class MeterExampleTest < Minitest::Test
  include StreamHelper

  def run_example(*arguments, **options)
    pid = spawn(RbConfig.ruby, "-W", "-I#{RUBY_FOLDER}/lib", "#{RUBY_FOLDER}/examples/meter.rb", *arguments, **options)
    @processes << pid
    pid
  end

  def test_serves_and_shows
    output, input = IO.pipe
    server = run_example("--serve", stream_name, out: input)
    assert_equal "serving #{stream_name}\n", Timeout.timeout(20) { output.gets }

    meter = run_example("-n", "1", stream_name, out: input)
    assert_succeeds meter
    assert_match(/\A[1-9]\d* frames  0 lost  1 s -?\d\.\d{3}  5 s -?\d\.\d{3}  25 s -?\d\.\d{3}\n\z/, output.gets)
    assert_equal 3, mirror.read.then { |_, _, span| span.format.shape.first }

    Process.kill(:TERM, server)
    assert_succeeds server
    assert_empty leftovers
  ensure
    [output, input].each(&:close)
  end

  def test_says_what_is_wrong
    output, status = Open3.capture2e(RbConfig.ruby, "-I#{RUBY_FOLDER}/lib", "#{RUBY_FOLDER}/examples/meter.rb", "")
    refute_predicate status, :success?
    assert_match(/\Ameter: Invalid argument - /, output)
  end
end
