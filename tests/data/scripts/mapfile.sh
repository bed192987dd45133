mapfile -t r <<'EOF'
a=q8_0
b c
EOF
llama-quantize "${r[@]}" Q4_0
