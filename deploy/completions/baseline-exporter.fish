# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_baseline_exporter_global_optspecs
    string join \n config.file= config.check web.listen-address= web.systemd-socket web.config.file= web.health-without-credentials web.telemetry-path= web.runbook-url= web.max-requests= web.enable-lifecycle log.level= log.format= h/help V/version
end

function __fish_baseline_exporter_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_baseline_exporter_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_baseline_exporter_using_subcommand
    set -l cmd (__fish_baseline_exporter_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c baseline-exporter -n "__fish_baseline_exporter_needs_command" -l config.file -d 'The file that says what the deployment looks like when it is healthy [default: the baseline that is built in]' -r -F
complete -c baseline-exporter -n "__fish_baseline_exporter_needs_command" -l web.listen-address -d 'Where to listen, such as :9100, 127.0.0.1:9100, [::1]:9100, host:9100 or unix:/run/x.sock. Without a host: on every address. May be given more than once' -r
complete -c baseline-exporter -n "__fish_baseline_exporter_needs_command" -l web.config.file -d 'The file with TLS, passwords, headers and a rate limit, in the format of Prometheus\' exporters [default: plain HTTP]' -r -F
complete -c baseline-exporter -n "__fish_baseline_exporter_needs_command" -l web.telemetry-path -d 'The path of the metrics' -r
complete -c baseline-exporter -n "__fish_baseline_exporter_needs_command" -l web.runbook-url -d 'Where the runbook can be read, for the links of the status page: an address of http or https that a phone can open' -r
complete -c baseline-exporter -n "__fish_baseline_exporter_needs_command" -l web.max-requests -d 'How many answers may be in the making or on their way at once; further scrapes get status 503. Scrapes that overlap share one answer and count once. 0 is no limit' -r
complete -c baseline-exporter -n "__fish_baseline_exporter_needs_command" -l log.level -d 'How much to log on standard error [default: info; check logs nothing unless asked]' -r -f -a "debug\t'Everything, each request too'
info\t'What starts, stops and changes'
warn\t'What somebody should look at'
error\t'What failed'"
complete -c baseline-exporter -n "__fish_baseline_exporter_needs_command" -l log.format -d 'How to write a log line' -r -f -a "logfmt\t'`ts=… level=info msg="…" key=value`'
json\t'`{"ts":"…","level":"info","msg":"…","key":"value"}`'"
complete -c baseline-exporter -n "__fish_baseline_exporter_needs_command" -l config.check -d 'Only check the baseline and --web.config.file: print a summary, or every mistake in them'
complete -c baseline-exporter -n "__fish_baseline_exporter_needs_command" -l web.systemd-socket -d 'Listen on the sockets that systemd passes (socket activation) instead of on addresses'
complete -c baseline-exporter -n "__fish_baseline_exporter_needs_command" -l web.health-without-credentials -d 'Answer /-/healthy and /-/ready without a password'
complete -c baseline-exporter -n "__fish_baseline_exporter_needs_command" -l web.enable-lifecycle -d 'Let whoever can connect ask for a reload, by POST or PUT to /-/reload; SIGHUP does the same in any case'
complete -c baseline-exporter -n "__fish_baseline_exporter_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c baseline-exporter -n "__fish_baseline_exporter_needs_command" -s V -l version -d 'Print version'
complete -c baseline-exporter -n "__fish_baseline_exporter_needs_command" -f -a "serve" -d 'Serve metrics until told to stop'
complete -c baseline-exporter -n "__fish_baseline_exporter_needs_command" -f -a "check" -d 'Look at the host once and report what does not hold'
complete -c baseline-exporter -n "__fish_baseline_exporter_needs_command" -f -a "snapshot" -d 'Keep, compare and bring back the unit files that were last known good'
complete -c baseline-exporter -n "__fish_baseline_exporter_needs_command" -f -a "learn" -d 'Write a baseline from this host, which is healthy now'
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand serve" -l config.file -d 'The file that says what the deployment looks like when it is healthy [default: the baseline that is built in]' -r -F
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand serve" -l web.listen-address -d 'Where to listen, such as :9100, 127.0.0.1:9100, [::1]:9100, host:9100 or unix:/run/x.sock. Without a host: on every address. May be given more than once' -r
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand serve" -l web.config.file -d 'The file with TLS, passwords, headers and a rate limit, in the format of Prometheus\' exporters [default: plain HTTP]' -r -F
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand serve" -l web.telemetry-path -d 'The path of the metrics' -r
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand serve" -l web.runbook-url -d 'Where the runbook can be read, for the links of the status page: an address of http or https that a phone can open' -r
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand serve" -l web.max-requests -d 'How many answers may be in the making or on their way at once; further scrapes get status 503. Scrapes that overlap share one answer and count once. 0 is no limit' -r
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand serve" -l log.level -d 'How much to log on standard error [default: info; check logs nothing unless asked]' -r -f -a "debug\t'Everything, each request too'
info\t'What starts, stops and changes'
warn\t'What somebody should look at'
error\t'What failed'"
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand serve" -l log.format -d 'How to write a log line' -r -f -a "logfmt\t'`ts=… level=info msg="…" key=value`'
json\t'`{"ts":"…","level":"info","msg":"…","key":"value"}`'"
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand serve" -l config.check -d 'Only check the baseline and --web.config.file: print a summary, or every mistake in them'
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand serve" -l web.systemd-socket -d 'Listen on the sockets that systemd passes (socket activation) instead of on addresses'
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand serve" -l web.health-without-credentials -d 'Answer /-/healthy and /-/ready without a password'
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand serve" -l web.enable-lifecycle -d 'Let whoever can connect ask for a reload, by POST or PUT to /-/reload; SIGHUP does the same in any case'
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand serve" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand check" -l output -d 'How to print the report' -r -f -a "text\t'For people'
json\t'For programs'"
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand check" -l config.file -d 'The file that says what the deployment looks like when it is healthy [default: the baseline that is built in]' -r -F
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand check" -l web.listen-address -d 'Where to listen, such as :9100, 127.0.0.1:9100, [::1]:9100, host:9100 or unix:/run/x.sock. Without a host: on every address. May be given more than once' -r
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand check" -l web.config.file -d 'The file with TLS, passwords, headers and a rate limit, in the format of Prometheus\' exporters [default: plain HTTP]' -r -F
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand check" -l web.telemetry-path -d 'The path of the metrics' -r
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand check" -l web.runbook-url -d 'Where the runbook can be read, for the links of the status page: an address of http or https that a phone can open' -r
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand check" -l web.max-requests -d 'How many answers may be in the making or on their way at once; further scrapes get status 503. Scrapes that overlap share one answer and count once. 0 is no limit' -r
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand check" -l log.level -d 'How much to log on standard error [default: info; check logs nothing unless asked]' -r -f -a "debug\t'Everything, each request too'
info\t'What starts, stops and changes'
warn\t'What somebody should look at'
error\t'What failed'"
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand check" -l log.format -d 'How to write a log line' -r -f -a "logfmt\t'`ts=… level=info msg="…" key=value`'
json\t'`{"ts":"…","level":"info","msg":"…","key":"value"}`'"
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand check" -l config.check -d 'Only check the baseline and --web.config.file: print a summary, or every mistake in them'
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand check" -l web.systemd-socket -d 'Listen on the sockets that systemd passes (socket activation) instead of on addresses'
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand check" -l web.health-without-credentials -d 'Answer /-/healthy and /-/ready without a password'
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand check" -l web.enable-lifecycle -d 'Let whoever can connect ask for a reload, by POST or PUT to /-/reload; SIGHUP does the same in any case'
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand snapshot; and not __fish_seen_subcommand_from take diff restore" -l config.file -d 'The file that says what the deployment looks like when it is healthy [default: the baseline that is built in]' -r -F
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand snapshot; and not __fish_seen_subcommand_from take diff restore" -l web.listen-address -d 'Where to listen, such as :9100, 127.0.0.1:9100, [::1]:9100, host:9100 or unix:/run/x.sock. Without a host: on every address. May be given more than once' -r
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand snapshot; and not __fish_seen_subcommand_from take diff restore" -l web.config.file -d 'The file with TLS, passwords, headers and a rate limit, in the format of Prometheus\' exporters [default: plain HTTP]' -r -F
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand snapshot; and not __fish_seen_subcommand_from take diff restore" -l web.telemetry-path -d 'The path of the metrics' -r
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand snapshot; and not __fish_seen_subcommand_from take diff restore" -l web.runbook-url -d 'Where the runbook can be read, for the links of the status page: an address of http or https that a phone can open' -r
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand snapshot; and not __fish_seen_subcommand_from take diff restore" -l web.max-requests -d 'How many answers may be in the making or on their way at once; further scrapes get status 503. Scrapes that overlap share one answer and count once. 0 is no limit' -r
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand snapshot; and not __fish_seen_subcommand_from take diff restore" -l log.level -d 'How much to log on standard error [default: info; check logs nothing unless asked]' -r -f -a "debug\t'Everything, each request too'
info\t'What starts, stops and changes'
warn\t'What somebody should look at'
error\t'What failed'"
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand snapshot; and not __fish_seen_subcommand_from take diff restore" -l log.format -d 'How to write a log line' -r -f -a "logfmt\t'`ts=… level=info msg="…" key=value`'
json\t'`{"ts":"…","level":"info","msg":"…","key":"value"}`'"
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand snapshot; and not __fish_seen_subcommand_from take diff restore" -l config.check -d 'Only check the baseline and --web.config.file: print a summary, or every mistake in them'
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand snapshot; and not __fish_seen_subcommand_from take diff restore" -l web.systemd-socket -d 'Listen on the sockets that systemd passes (socket activation) instead of on addresses'
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand snapshot; and not __fish_seen_subcommand_from take diff restore" -l web.health-without-credentials -d 'Answer /-/healthy and /-/ready without a password'
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand snapshot; and not __fish_seen_subcommand_from take diff restore" -l web.enable-lifecycle -d 'Let whoever can connect ask for a reload, by POST or PUT to /-/reload; SIGHUP does the same in any case'
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand snapshot; and not __fish_seen_subcommand_from take diff restore" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand snapshot; and not __fish_seen_subcommand_from take diff restore" -f -a "take" -d 'Copy the watched units\' files, drop-ins and links into a new directory'
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand snapshot; and not __fish_seen_subcommand_from take diff restore" -f -a "diff" -d 'Show how the host\'s files differ: exit status 0 not at all, 1 they do, 2 could not tell'
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand snapshot; and not __fish_seen_subcommand_from take diff restore" -f -a "restore" -d 'Say what would bring the files back, or with --apply do it and check the host'
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand snapshot; and __fish_seen_subcommand_from take" -l config.file -d 'The file that says what the deployment looks like when it is healthy [default: the baseline that is built in]' -r -F
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand snapshot; and __fish_seen_subcommand_from take" -l web.listen-address -d 'Where to listen, such as :9100, 127.0.0.1:9100, [::1]:9100, host:9100 or unix:/run/x.sock. Without a host: on every address. May be given more than once' -r
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand snapshot; and __fish_seen_subcommand_from take" -l web.config.file -d 'The file with TLS, passwords, headers and a rate limit, in the format of Prometheus\' exporters [default: plain HTTP]' -r -F
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand snapshot; and __fish_seen_subcommand_from take" -l web.telemetry-path -d 'The path of the metrics' -r
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand snapshot; and __fish_seen_subcommand_from take" -l web.runbook-url -d 'Where the runbook can be read, for the links of the status page: an address of http or https that a phone can open' -r
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand snapshot; and __fish_seen_subcommand_from take" -l web.max-requests -d 'How many answers may be in the making or on their way at once; further scrapes get status 503. Scrapes that overlap share one answer and count once. 0 is no limit' -r
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand snapshot; and __fish_seen_subcommand_from take" -l log.level -d 'How much to log on standard error [default: info; check logs nothing unless asked]' -r -f -a "debug\t'Everything, each request too'
info\t'What starts, stops and changes'
warn\t'What somebody should look at'
error\t'What failed'"
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand snapshot; and __fish_seen_subcommand_from take" -l log.format -d 'How to write a log line' -r -f -a "logfmt\t'`ts=… level=info msg="…" key=value`'
json\t'`{"ts":"…","level":"info","msg":"…","key":"value"}`'"
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand snapshot; and __fish_seen_subcommand_from take" -l config.check -d 'Only check the baseline and --web.config.file: print a summary, or every mistake in them'
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand snapshot; and __fish_seen_subcommand_from take" -l web.systemd-socket -d 'Listen on the sockets that systemd passes (socket activation) instead of on addresses'
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand snapshot; and __fish_seen_subcommand_from take" -l web.health-without-credentials -d 'Answer /-/healthy and /-/ready without a password'
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand snapshot; and __fish_seen_subcommand_from take" -l web.enable-lifecycle -d 'Let whoever can connect ask for a reload, by POST or PUT to /-/reload; SIGHUP does the same in any case'
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand snapshot; and __fish_seen_subcommand_from take" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand snapshot; and __fish_seen_subcommand_from diff" -l config.file -d 'The file that says what the deployment looks like when it is healthy [default: the baseline that is built in]' -r -F
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand snapshot; and __fish_seen_subcommand_from diff" -l web.listen-address -d 'Where to listen, such as :9100, 127.0.0.1:9100, [::1]:9100, host:9100 or unix:/run/x.sock. Without a host: on every address. May be given more than once' -r
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand snapshot; and __fish_seen_subcommand_from diff" -l web.config.file -d 'The file with TLS, passwords, headers and a rate limit, in the format of Prometheus\' exporters [default: plain HTTP]' -r -F
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand snapshot; and __fish_seen_subcommand_from diff" -l web.telemetry-path -d 'The path of the metrics' -r
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand snapshot; and __fish_seen_subcommand_from diff" -l web.runbook-url -d 'Where the runbook can be read, for the links of the status page: an address of http or https that a phone can open' -r
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand snapshot; and __fish_seen_subcommand_from diff" -l web.max-requests -d 'How many answers may be in the making or on their way at once; further scrapes get status 503. Scrapes that overlap share one answer and count once. 0 is no limit' -r
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand snapshot; and __fish_seen_subcommand_from diff" -l log.level -d 'How much to log on standard error [default: info; check logs nothing unless asked]' -r -f -a "debug\t'Everything, each request too'
info\t'What starts, stops and changes'
warn\t'What somebody should look at'
error\t'What failed'"
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand snapshot; and __fish_seen_subcommand_from diff" -l log.format -d 'How to write a log line' -r -f -a "logfmt\t'`ts=… level=info msg="…" key=value`'
json\t'`{"ts":"…","level":"info","msg":"…","key":"value"}`'"
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand snapshot; and __fish_seen_subcommand_from diff" -l config.check -d 'Only check the baseline and --web.config.file: print a summary, or every mistake in them'
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand snapshot; and __fish_seen_subcommand_from diff" -l web.systemd-socket -d 'Listen on the sockets that systemd passes (socket activation) instead of on addresses'
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand snapshot; and __fish_seen_subcommand_from diff" -l web.health-without-credentials -d 'Answer /-/healthy and /-/ready without a password'
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand snapshot; and __fish_seen_subcommand_from diff" -l web.enable-lifecycle -d 'Let whoever can connect ask for a reload, by POST or PUT to /-/reload; SIGHUP does the same in any case'
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand snapshot; and __fish_seen_subcommand_from diff" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand snapshot; and __fish_seen_subcommand_from restore" -l config.file -d 'The file that says what the deployment looks like when it is healthy [default: the baseline that is built in]' -r -F
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand snapshot; and __fish_seen_subcommand_from restore" -l web.listen-address -d 'Where to listen, such as :9100, 127.0.0.1:9100, [::1]:9100, host:9100 or unix:/run/x.sock. Without a host: on every address. May be given more than once' -r
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand snapshot; and __fish_seen_subcommand_from restore" -l web.config.file -d 'The file with TLS, passwords, headers and a rate limit, in the format of Prometheus\' exporters [default: plain HTTP]' -r -F
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand snapshot; and __fish_seen_subcommand_from restore" -l web.telemetry-path -d 'The path of the metrics' -r
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand snapshot; and __fish_seen_subcommand_from restore" -l web.runbook-url -d 'Where the runbook can be read, for the links of the status page: an address of http or https that a phone can open' -r
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand snapshot; and __fish_seen_subcommand_from restore" -l web.max-requests -d 'How many answers may be in the making or on their way at once; further scrapes get status 503. Scrapes that overlap share one answer and count once. 0 is no limit' -r
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand snapshot; and __fish_seen_subcommand_from restore" -l log.level -d 'How much to log on standard error [default: info; check logs nothing unless asked]' -r -f -a "debug\t'Everything, each request too'
info\t'What starts, stops and changes'
warn\t'What somebody should look at'
error\t'What failed'"
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand snapshot; and __fish_seen_subcommand_from restore" -l log.format -d 'How to write a log line' -r -f -a "logfmt\t'`ts=… level=info msg="…" key=value`'
json\t'`{"ts":"…","level":"info","msg":"…","key":"value"}`'"
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand snapshot; and __fish_seen_subcommand_from restore" -l apply -d 'Do it: write the files, make systemd read them again, and run the checks. Units are neither started nor stopped'
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand snapshot; and __fish_seen_subcommand_from restore" -l prune -d 'Remove the watched units\' files that are not in the snapshot'
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand snapshot; and __fish_seen_subcommand_from restore" -l config.check -d 'Only check the baseline and --web.config.file: print a summary, or every mistake in them'
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand snapshot; and __fish_seen_subcommand_from restore" -l web.systemd-socket -d 'Listen on the sockets that systemd passes (socket activation) instead of on addresses'
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand snapshot; and __fish_seen_subcommand_from restore" -l web.health-without-credentials -d 'Answer /-/healthy and /-/ready without a password'
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand snapshot; and __fish_seen_subcommand_from restore" -l web.enable-lifecycle -d 'Let whoever can connect ask for a reload, by POST or PUT to /-/reload; SIGHUP does the same in any case'
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand snapshot; and __fish_seen_subcommand_from restore" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand learn" -l match -d 'Learn from the units of this name (`*`, `?`, `[...]`), such as \'shop-*\'; may be given more than once [default: the units whose files the administrator put into /etc/systemd/system]' -r
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand learn" -l config.file -d 'The file that says what the deployment looks like when it is healthy [default: the baseline that is built in]' -r -F
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand learn" -l web.listen-address -d 'Where to listen, such as :9100, 127.0.0.1:9100, [::1]:9100, host:9100 or unix:/run/x.sock. Without a host: on every address. May be given more than once' -r
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand learn" -l web.config.file -d 'The file with TLS, passwords, headers and a rate limit, in the format of Prometheus\' exporters [default: plain HTTP]' -r -F
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand learn" -l web.telemetry-path -d 'The path of the metrics' -r
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand learn" -l web.runbook-url -d 'Where the runbook can be read, for the links of the status page: an address of http or https that a phone can open' -r
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand learn" -l web.max-requests -d 'How many answers may be in the making or on their way at once; further scrapes get status 503. Scrapes that overlap share one answer and count once. 0 is no limit' -r
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand learn" -l log.level -d 'How much to log on standard error [default: info; check logs nothing unless asked]' -r -f -a "debug\t'Everything, each request too'
info\t'What starts, stops and changes'
warn\t'What somebody should look at'
error\t'What failed'"
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand learn" -l log.format -d 'How to write a log line' -r -f -a "logfmt\t'`ts=… level=info msg="…" key=value`'
json\t'`{"ts":"…","level":"info","msg":"…","key":"value"}`'"
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand learn" -l force -d 'Learn though units failed, restart again and again or are stuck: nothing is expected of those, comments tell of them'
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand learn" -l diff -d 'Say how the baseline of --config.file, else the built-in one, differs from this host: one line each. `+` is on the host only, `-` in the baseline only, `~` otherwise'
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand learn" -l config.check -d 'Only check the baseline and --web.config.file: print a summary, or every mistake in them'
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand learn" -l web.systemd-socket -d 'Listen on the sockets that systemd passes (socket activation) instead of on addresses'
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand learn" -l web.health-without-credentials -d 'Answer /-/healthy and /-/ready without a password'
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand learn" -l web.enable-lifecycle -d 'Let whoever can connect ask for a reload, by POST or PUT to /-/reload; SIGHUP does the same in any case'
complete -c baseline-exporter -n "__fish_baseline_exporter_using_subcommand learn" -s h -l help -d 'Print help (see more with \'--help\')'
