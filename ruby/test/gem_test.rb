# frozen_string_literal: true

require "test_helper"
require "fileutils"

# Builds the gem with the library inside, installs it where nothing else is, and runs it from there.
class GemTest < Minitest::Test
  PROGRAM = <<~'RUBY'
    require "shmhot"
    ring = Shmhot::HotpathRing.new
    ring.timeout(7, 1)
    ring.turn { |_, _, id| puts "gem #{Shmhot::VERSION}, id #{id}, #{Shmhot::Native.library_path}" }
  RUBY

  def test_installs_and_runs
    Dir.mktmpdir do |folder|
      copy = File.join(folder, "ruby")
      home = File.join(folder, "home")
      FileUtils.cp_r(RUBY_FOLDER, copy)
      FileUtils.cp(ENV.fetch("SHMHOT_LIBRARY"), File.join(copy, "lib/shmhot/libshmhot.so"))

      run_in(copy, "gem", "build", "--output", "#{folder}/shmhot.gem", "shmhot.gemspec")
      run_in(folder, { "GEM_HOME" => home }, "gem", "install", "--local", "--no-document", "shmhot.gem")
      output = run_in(folder, { "GEM_HOME" => home, "GEM_PATH" => home, "SHMHOT_LIBRARY" => nil, "RUBYLIB" => nil },
                      RbConfig.ruby, "-e", PROGRAM)
      assert_match(%r{\Agem #{Shmhot::VERSION}, id 7, #{home}/gems/shmhot-.*/lib/shmhot/libshmhot.so\n\z}, output)
    end
  end

  private

  def run_in(folder, *command)
    output, status = Open3.capture2e(*command, chdir: folder)
    assert status.success?, "#{command.join(" ")}: #{output}"
    output
  end
end
