# frozen_string_literal: true

require "test_helper"

class VMClockExampleTest < Minitest::Test
  include PageHelper

  def run_example(*arguments, **options)
    spawn(RbConfig.ruby, "-I#{RUBY_FOLDER}/lib", "#{RUBY_FOLDER}/examples/vmclock.rb", *arguments, **options)
  end

  def test_serves_and_prints
    output, input = IO.pipe
    server = run_example("--serve", path, out: input)
    @processes << server
    assert_equal "serving #{path}\n", Timeout.timeout(20) { output.gets }

    printed, printing = IO.pipe
    assert_succeeds run_example("-n", "1", path, out: printing).tap { |pid| @processes << pid }
    printing.close
    line = printed.read
    assert_match(/\A\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{9}  \+-\d+\.\d{6} ms  (synchronized|freerunning)\n\z/, line)
    assert_in_delta Time.now, Time.iso8601("#{line[0, 29].sub(" ", "T")}Z"), 20

    Process.kill(:TERM, server)
    assert_succeeds server
    refute_path_exists path
  ensure
    [output, input, printed, printing].compact.each(&:close)
  end

  def test_says_what_is_missing
    output, status = Open3.capture2e(RbConfig.ruby, "-I#{RUBY_FOLDER}/lib", "#{RUBY_FOLDER}/examples/vmclock.rb", path)
    refute_predicate status, :success?
    assert_match(/\Avmclock: No such file or directory - #{path}/, output)
  end
end
