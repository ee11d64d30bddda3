# frozen_string_literal: true

require "test_helper"

# The signatures name what there is, no more and no less.
class SigTest < Minitest::Test
  Ring = Shmhot::HotpathRing

  def signature
    @signature ||= File.read("#{RUBY_FOLDER}/sig/hotpath_ring.rbs")
  end

  def names(pattern)
    signature.scan(pattern).flatten.map(&:to_sym).sort
  end

  def test_methods
    pin = signature[/^    class Pin.*?^    end/m]
    signature.sub!(pin, "")
    expected = Ring.public_instance_methods(false) - [:inspect] + [:initialize]
    assert_equal expected.sort, names(/^    (?:def|attr_reader) ([a-z]\w*[?!]?):/)
    assert_equal Ring.singleton_methods(false).sort, names(/^    def self\.(\w+\??):/)
  end

  def test_constants
    assert_equal Ring.constants.sort, names(/^    ([A-Z][A-Z_]+): Integer/)
  end

  def test_keywords
    { initialize: Ring.instance_method(:initialize), write: Ring.instance_method(:write), turn: Ring.instance_method(:turn),
      each_completion: Ring.instance_method(:each_completion) }.each do |name, method|
      declared = signature[/def #{name}: \(.*?\)(?: \{| ->)/m].scan(/\?(\w+):/).flatten
      assert_equal method.parameters.select { |kind, _| kind == :key }.map { |_, key| key.to_s }, declared, name
    end
  end
end
