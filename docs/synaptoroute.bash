# Completion of synaptoroute for bash.

_synaptoroute() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} command='' i
    local commands='route add remove list info import export fit eval lint pull distill load serve key'
    local globals='--db --model --fast-model --prefix --threads --reencode --durability --json --quiet --help --version'
    local files='--format --text-column --route-column --oos-label' options=''
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
        --db | --model | --fast-model | --prefix | --threads) ((i++)) ;;
        -*) ;;
        *)
            command=${COMP_WORDS[i]}
            break
            ;;
        esac
    done
    case $before in
    --path) mapfile -t COMPREPLY < <(compgen -W 'auto fast slow' -- "$word") && return ;;
    --arrivals) mapfile -t COMPREPLY < <(compgen -W 'poisson constant' -- "$word") && return ;;
    --format) mapfile -t COMPREPLY < <(compgen -W 'csv jsonl yaml' -- "$word") && return ;;
    --db | --model | --to | --texts | --html | --predictions) mapfile -t COMPREPLY < <(compgen -f -- "$word") && return ;;
    esac
    case $command in
    '') options=$commands ;;
    route) options='--top --margin --no-reject --as-is --path' ;;
    add) options='--threshold --confidence --description --metadata --oos' ;;
    remove) options='--oos' ;;
    list) options='--utterances --oos' ;;
    info) options='--verify' ;;
    import) options="$files --replace --no-fit" ;;
    fit) options="$files --max-oos --min-precision --route" ;;
    export) options='--format --oos-label' ;;
    distill) options='--dimension --texts --format --text-column --route-column' ;;
    pull) options='--to --revision --endpoint --sha256 --offline --force --keep --retries --stall' ;;
    eval) options="$files --top --margin --no-reject --as-is --path --html --predictions" ;;
    serve) options='--listen --config --print-config --options --keys --tls-certificate --tls-key --insecure' ;;
    key) options='--keys --role' ;;
    load) options='--texts --rate --arrivals --connections --duration --warmup --timeout --batch --path --deadline --key --seed
        --each-second --format --text-column --route-column' ;;
    lint) options="--near --oos-near --overlap --few --limit --strict" ;;
    esac
    case $command$word in
    *-*) mapfile -t COMPREPLY < <(compgen -W "$options $globals" -- "$word") ;;
    import* | export* | eval* | fit*) mapfile -t COMPREPLY < <(compgen -f -- "$word") ;;
    '') mapfile -t COMPREPLY < <(compgen -W "$commands" -- "$word") ;;
    *) [ -n "$command" ] || mapfile -t COMPREPLY < <(compgen -W "$commands" -- "$word") ;;
    esac
}

complete -o filenames -F _synaptoroute synaptoroute
