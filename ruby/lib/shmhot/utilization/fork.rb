# frozen_string_literal: true

module Shmhot
  module Utilization
    # Tells what has to know that this process is a child now.
    module Fork
      # Stands for an object in the WeakMap, which forgets in a finalizer: Handle removes those of its objects.
      Watch = Struct.new(:object)

      # To itself, since Ruby 3.1 keeps what is dead where the value is none that it can watch too.
      @watches = ObjectSpace::WeakMap.new

      class << self
        # Has +object+ told by its method +forked+, as long as it lives and keeps what this returns.
        def watch(object)
          watch = Watch.new(object)
          @watches[watch] = watch
        end

        def in_child
          @watches.keys.each do |watch|
            watch.object.send(:forked)
          rescue StandardError => e
            Utilization.report("after the fork, #{watch.object.inspect}", e)
          end
        end
      end

      module Hook
        def _fork
          pid = super
          Fork.in_child if pid.zero?
          pid
        end

        # Forks past _fork.
        def daemon(...)
          status = super
          Fork.in_child
          status
        end
      end
      Process.singleton_class.prepend(Hook)
    end
    private_constant :Fork
  end
end
