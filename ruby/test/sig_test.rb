# frozen_string_literal: true

require "test_helper"

# The signatures name what there is, no more and no less.
class SigTest < Minitest::Test
  VMClock = Shmhot::VMClock
  Utilization = Shmhot::Utilization
  # Each class, and where its signature is.
  CLASSES = {
    Shmhot::HotpathRing => "hotpath_ring", VMClock => "vmclock", VMClock::Snapshot => "vmclock",
    VMClock::Reading => "vmclock", VMClock::Writer => "vmclock", VMClock::Calibrator => "vmclock",
    Utilization::Schema => "utilization", Utilization::Schema::Field => "utilization",
    Utilization::Observer => "utilization", Utilization::Metric => "utilization", Utilization::Registry => "utilization",
    Utilization::Namespace => "utilization", Utilization::SegmentStore => "utilization",
    Utilization::SegmentStore::Worker => "utilization",
    Shmhot::CircBuff => "circbuf", Shmhot::CircBuff::Format => "circbuf", Shmhot::CircBuff::Info => "circbuf",
    Shmhot::CircMirror => "circbuf", Shmhot::CircMirror::Span => "circbuf"
  }.freeze

  # What is between +class+ and +end+, without the classes in it.
  def signature(type)
    outside = "  " * (type.name.scan("::").size)
    text = File.read("#{RUBY_FOLDER}/sig/#{CLASSES.fetch(type)}.rbs")
    body = text[/^#{outside}class #{type.name[/\w+\z/]}\b.*?^#{outside}end$/m]
    body.gsub(/^#{outside}  class .*?^#{outside}  end$/m, "")
  end

  def names(type, pattern)
    signature(type).scan(pattern).flatten.map(&:to_sym).sort
  end

  # Names of those that are defined in this library.
  def ours(methods)
    methods.select { |method| method.source_location&.first&.start_with?(RUBY_FOLDER) }.map(&:name).sort
  end

  def test_methods
    CLASSES.each_key do |type|
      expected = ours([*type.public_instance_methods, :initialize].map { |name| type.instance_method(name) }) - [:inspect]
      expected.concat(type.members) if type < Struct
      assert_equal expected.sort, names(type, /^ *(?:def|attr_reader) (\[\]|[a-z]\w*[?!=]?):/), type.name
      assert_equal ours(type.singleton_methods.map { |name| type.method(name) }),
                   names(type, /^ *def self\.(\w+\??):/), type.name
    end
  end

  def test_constants
    CLASSES.each_key do |type|
      expected = type.constants(false).reject { |name| type.const_get(name).is_a?(Class) }
      assert_equal expected.sort, names(type, /^ *([A-Z][A-Z\d_]+): \w+/), type.name
    end
  end

  def test_keywords
    CLASSES.each_key do |type|
      ours(type.public_instance_methods.map { |name| type.instance_method(name) }).push(:initialize).each do |name|
        keywords = type.instance_method(name).parameters.filter_map { |kind, key| key.to_s if kind == :key }
        declared = signature(type)[/def #{Regexp.escape(name)}: \(.*?\)(?: \{| ->)/m].to_s.scan(/\?(\w+):/).flatten
        assert_equal keywords, declared, "#{type}##{name}"
      end
    end
  end
end
