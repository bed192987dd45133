cat > types.txt <<'EOF'
attn_v=q8_0
EOF
read -r -d '' c <<EOF
a=q8_0
${C:-d}\$x
EOF
llama-quantize --t "$c" --u "$(cat types.txt)" --v "$(<types.txt)" "$(cat <<'X'
y)
X
)" a b Q4_0
